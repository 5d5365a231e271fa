// The sequence of one answer: the shared, read-only pages of a document, followed by private pages
// for the question and the answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "server/engine/documents/document.h"
#include "server/engine/kv_cache/page_pool.h"

namespace lectern {

class Sequence {
 public:
  Sequence() = default;

  // Continues the first `tokens` tokens (prefix included) of part `part` of a document. `own` must
  // hold OwnTokens() tokens: those of the last, partly filled page, which are copied, and those
  // that follow.
  Sequence(std::shared_ptr<const DocumentKv> document, size_t part, uint64_t tokens,
           const ModelInfo& model, PageSet own);
  // Begins an empty sequence.
  explicit Sequence(PageSet own);

  // Tokens that the private pages of a continuation must hold.
  static uint64_t OwnTokens(uint64_t document_tokens, uint64_t more, const ModelInfo& model) {
    return document_tokens % static_cast<uint64_t>(model.page_tokens) + more;
  }

  std::span<std::byte* const> pages() const { return pages_; }
  // The number of tokens in the pages.
  int64_t position() const { return position_; }
  void Advance(uint64_t tokens) { position_ += static_cast<int64_t>(tokens); }

 private:
  std::shared_ptr<const DocumentKv> document_;
  PageSet own_;
  std::vector<std::byte*> pages_;
  int64_t position_ = 0;
};

}  // namespace lectern
