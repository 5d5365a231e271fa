// Bytes of pages that a document takes: exact once its tokens are known, a lower bound before. 0
// for a model that keeps none.
#pragma once

#include <cstdint>

#include "server/engine/api.h"
#include "server/engine/documents/document.h"
#include "server/model/model.h"

namespace lectern {

// As counted by PagePool: ceil((prefix + tokens) / page_tokens) pages for each part.
uint64_t DeviceBytes(const DocumentContent& content, ReadingMode reading);

// Every text of `text_bytes` bytes takes at least so much, however it is read: with T at least
// text_bytes over the bytes of the longest token, ceil((prefix + T) / page_tokens) pages. Chunks
// have the prefix each and take more. 0 if the tokens' lengths are not known.
uint64_t LeastDeviceBytes(const Model& model, uint64_t text_bytes);

}  // namespace lectern
