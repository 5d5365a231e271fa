#include "server/engine/answering/sequence.h"

#include <cstring>
#include <utility>

namespace lectern {

Sequence::Sequence(PageSet own) : own_(std::move(own)) {
  pages_.assign(own_.pages().begin(), own_.pages().end());
}

Sequence::Sequence(std::shared_ptr<const DocumentKv> document, size_t part, uint64_t tokens,
                   const ModelInfo& model, PageSet own)
    : document_(std::move(document)),
      own_(std::move(own)),
      position_(static_cast<int64_t>(tokens)) {
  const auto shared = document_->parts[part].pages();
  const size_t full = tokens / static_cast<uint64_t>(model.page_tokens);
  pages_.assign(shared.begin(), shared.begin() + static_cast<std::ptrdiff_t>(full));
  pages_.insert(pages_.end(), own_.pages().begin(), own_.pages().end());
  if (tokens % static_cast<uint64_t>(model.page_tokens) > 0) {
    std::memcpy(own_.pages()[0], shared[full], model.page_bytes);
  }
}

}  // namespace lectern
