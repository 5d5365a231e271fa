// Bytes of pages that a document takes: exact once its tokens are known, an upper bound before.
#pragma once

#include <cstdint>

#include "server/engine/document.h"
#include "server/engine/types.h"
#include "server/model/model.h"

namespace lectern {

// As counted by PagePool: ceil((prefix + tokens) / page_tokens) pages for each part.
uint64_t DeviceBytes(const DocumentContent& content, Reading reading);

// No text of `text_bytes` bytes takes more in that reading, kWhole or kChunks (chunks of at most
// `chunk_tokens` tokens). A token stands for at least one byte of text (for about four as a rule),
// so that T <= text_bytes. Two neighbouring chunks have more than chunk_tokens tokens together:
// there are at most n = 2 floor(T / chunk_tokens) + 2 of them, each with the prefix and at most one
// page that is not full. Whole: floor((prefix + T) / page_tokens) + 1 pages; chunks:
// floor((T + n prefix) / page_tokens) + n.
uint64_t EstimateDeviceBytes(const Model& model, Reading reading, uint64_t text_bytes,
                             uint64_t chunk_tokens = kChunkTokens);

}  // namespace lectern
