#include "server/engine/document_size.h"

#include "server/engine/page_pool.h"

namespace lectern {

uint64_t DeviceBytes(const DocumentContent& content, Reading reading) {
  const ModelInfo& info = content.model->info();
  const auto page_tokens = static_cast<uint64_t>(info.page_tokens);
  uint64_t pages = 0;
  for (const TokenRange& part : content.Parts(reading)) {
    pages += (content.PromptSize(part) + page_tokens - 1) / page_tokens;
  }
  return PagePool::Cost(info.page_bytes, pages);
}

uint64_t EstimateDeviceBytes(const Model& model, Reading reading, uint64_t text_bytes,
                             uint64_t chunk_tokens) {
  const ModelInfo& info = model.info();
  const auto page_tokens = static_cast<uint64_t>(info.page_tokens);
  const uint64_t parts = reading == Reading::kChunks ? 2 * (text_bytes / chunk_tokens) + 2 : 1;
  const uint64_t tokens = text_bytes + parts * model.PromptPrefix().size();
  return PagePool::Cost(info.page_bytes, tokens / page_tokens + parts);
}

}  // namespace lectern
