#include "server/engine/documents/document_size.h"

#include "server/engine/kv_cache/page_count.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/engine/model_kind.h"

namespace lectern {

uint64_t DeviceBytes(const DocumentContent& content, ReadingMode reading) {
  const ModelInfo& info = content.model->info();
  if (!KeepsKv(info)) return 0;
  uint64_t pages = 0;
  for (const TokenRange& part : content.Parts(reading)) {
    pages += PagesFor(content.PromptSize(part), info);
  }
  return PagePool::Cost(info.page_bytes, pages);
}

uint64_t LeastDeviceBytes(const Model& model, uint64_t text_bytes) {
  const uint64_t longest = model.tokenizer().longest_token_bytes();
  if (longest == 0 || !KeepsKv(model.info())) return 0;
  const ModelInfo& info = model.info();
  const uint64_t tokens = model.PromptPrefix().size() + (text_bytes + longest - 1) / longest;
  return PagePool::Cost(info.page_bytes, PagesFor(tokens, info));
}

}  // namespace lectern
