// Limits on model files, all in one place; each has a test file that exceeds it
// (tests/server/formats). They bound the work and the memory that a hostile file can request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace lectern {

// GGUF.
inline constexpr uint64_t kMaxGgufTensors = 65'536;
inline constexpr uint64_t kMaxGgufFiles = 1'024;  // parts of a split model
inline constexpr uint64_t kMaxGgufKeys = 65'536;
inline constexpr uint64_t kMaxGgufKeyBytes = 65'535;
inline constexpr uint64_t kMaxGgufTensorNameBytes = 64;
inline constexpr uint64_t kMaxGgufStringBytes = 16 << 20;
inline constexpr uint64_t kMaxGgufArrayElements = 16 << 20;
inline constexpr uint64_t kMinGgufAlignment = 8;
inline constexpr uint64_t kMaxGgufAlignment = 4'096;

// Safetensors and its index.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 16 << 20;
inline constexpr uint64_t kMaxSafetensorsTensors = 65'536;
inline constexpr size_t kMaxSafetensorsShards = 1'024;

// JSON of any kind.
inline constexpr int kMaxJsonDepth = 8;
inline constexpr size_t kMaxJsonValues = 1 << 22;
inline constexpr size_t kMaxConfigJsonBytes = 1 << 20;

// tokenizer.json, tokenizer.model, vocab.txt; the multilingual ones have 5 to 35 MB. Gemma's
// 262,144 tokens and 514,906 merges, pairs of texts, are 1.9 million values, below kMaxJsonValues.
inline constexpr size_t kMaxTokenizerFileBytes = 64 << 20;

// Tensors of either format.
inline constexpr size_t kMaxTensorDims = 4;

// *out = a * b, or false if the product does not fit into 63 bits.
inline bool CheckedMultiply(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_mul_overflow(a, b, out) &&
         *out <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

}  // namespace lectern
