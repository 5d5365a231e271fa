#include "server/formats/tensor_source.h"

namespace lectern {
namespace {

struct TypeFacts {
  std::string_view name;
  int64_t values;  // per block
  int64_t bytes;   // per block
};

// Sizes from the GGUF specification (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
TypeFacts Facts(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return {"F32", 1, 4};
    case TensorType::kF16:
      return {"F16", 1, 2};
    case TensorType::kBF16:
      return {"BF16", 1, 2};
    case TensorType::kQ8_0:
      return {"Q8_0", 32, 34};
    case TensorType::kQ4_0:
      return {"Q4_0", 32, 18};
    case TensorType::kQ4_1:
      return {"Q4_1", 32, 20};
    case TensorType::kQ5_0:
      return {"Q5_0", 32, 22};
    case TensorType::kQ5_1:
      return {"Q5_1", 32, 24};
    case TensorType::kQ2_K:
      return {"Q2_K", 256, 84};
    case TensorType::kQ3_K:
      return {"Q3_K", 256, 110};
    case TensorType::kQ5_K:
      return {"Q5_K", 256, 176};
    case TensorType::kIQ4_NL:
      return {"IQ4_NL", 32, 18};
    case TensorType::kIQ4_XS:
      return {"IQ4_XS", 256, 136};
    case TensorType::kMXFP4:
      return {"MXFP4", 32, 17};
    case TensorType::kQ4_K:
      return {"Q4_K", 256, 144};
    case TensorType::kQ6_K:
      return {"Q6_K", 256, 210};
  }
  return {"unknown", 1, 1};
}

}  // namespace

std::string_view ToString(TensorType type) { return Facts(type).name; }
int64_t BlockValues(TensorType type) { return Facts(type).values; }
int64_t BlockBytes(TensorType type) { return Facts(type).bytes; }

bool HoldSameValues(const TensorSource& source, const TensorView& a, const TensorView& b) {
  if (a.type != b.type || a.shape != b.shape || a.bytes.size() != b.bytes.size()) return false;
  constexpr size_t kMiB = size_t{1} << 20;
  TensorView part_a = a, part_b = b;
  for (size_t at = 0; at < a.bytes.size(); at += kMiB) {
    part_a.bytes = a.bytes.substr(at, kMiB);
    part_b.bytes = b.bytes.substr(at, kMiB);
    if (part_a.bytes != part_b.bytes) return false;
    source.DontNeed(part_a);
    source.DontNeed(part_b);
  }
  return true;
}

}  // namespace lectern
