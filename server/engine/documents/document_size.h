// Computes the bytes of pages that a document takes: exactly once its tokens are known, and a lower
// bound before. 0 for a model that keeps no pages.
#pragma once

#include <cstdint>

#include "server/engine/api.h"
#include "server/engine/documents/document.h"
#include "server/model/model.h"

namespace lectern {

// The bytes that PagePool counts: ceil((prefix + tokens) / page_tokens) pages for each part.
uint64_t DeviceBytes(const DocumentContent& content, ReadingMode reading);

// A lower bound for every text of `text_bytes` bytes, however it is read: its T tokens are at least
// text_bytes over the bytes of the longest token, which takes ceil((prefix + T) / page_tokens)
// pages. Chunks have a prefix each and take more. 0 if the lengths of the tokens are not known.
uint64_t LeastDeviceBytes(const Model& model, uint64_t text_bytes);

}  // namespace lectern
