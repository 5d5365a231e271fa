// The layout of a KV page (kv_pages.h). Private to kernels/.
//
// Per layer, then per KV head, each part 64-byte aligned:
//   kF32  keys [head_dim][64] float, values [64][value_dim] float
//   kI8   keys [head_dim / 4][64][4] int8 (four channels of a key side by side, as the integer dot
//         products want them; head_dim padded with zeros to a multiple of 4), key scales [64]
//         float, -128 * (sum of each key's int8) [64] int32, values [64][value_dim] int8, value
//         scales [64]
// and in both the sum of all (dequantised) value rows before the page, [value_dim] float, and, once
// the page is full, the range of its keys in every channel:
//   kF32  largest [head_dim] float, smallest [head_dim] float
//   kI8   the same rounded outwards to int8, then the unit of both, one float
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kv/kv_pages.h"

namespace lectern::kernels::internal {

struct KvHeadLayout {
  size_t keys = 0;
  size_t key_scale = 0;
  size_t key_start = 0;
  size_t values = 0;
  size_t value_scale = 0;
  size_t value_prefix = 0;
  size_t key_high = 0;
  size_t key_low = 0;
  size_t key_unit = 0;  // kI8
  size_t bytes = 0;     // of one head of one layer
};

constexpr size_t Align64(size_t n) { return (n + 63) / 64 * 64; }
constexpr int PaddedHeadDim(int head_dim) { return (head_dim + 3) / 4 * 4; }

static inline KvHeadLayout HeadLayout(const KvPageLayout& layout) {
  KvHeadLayout head;
  size_t at = 0;
  const auto take = [&at](size_t bytes) {
    const size_t offset = at;
    at += Align64(bytes);
    return offset;
  };
  if (layout.type == KvType::kF32) {
    head.keys = take(sizeof(float) * layout.head_dim * kPageTokens);
    head.values = take(sizeof(float) * layout.value_dim * kPageTokens);
  } else {
    head.keys = take(static_cast<size_t>(PaddedHeadDim(layout.head_dim)) * kPageTokens);
    head.key_scale = take(sizeof(float) * kPageTokens);
    head.key_start = take(sizeof(int32_t) * kPageTokens);
    head.values = take(static_cast<size_t>(layout.value_dim) * kPageTokens);
    head.value_scale = take(sizeof(float) * kPageTokens);
  }
  head.value_prefix = take(sizeof(float) * layout.value_dim);
  const size_t bound = layout.type == KvType::kF32 ? sizeof(float) : 1;
  head.key_high = take(bound * layout.head_dim);
  head.key_low = take(bound * layout.head_dim);
  head.key_unit = take(sizeof(float));
  head.bytes = at;
  return head;
}

static inline size_t HeadOffset(const KvPageLayout& layout, const KvHeadLayout& head, int layer,
                                int kv_head) {
  return (static_cast<size_t>(layer) * layout.num_kv_heads + kv_head) * head.bytes;
}

static inline bool ValidLayout(const KvPageLayout& layout) {
  return layout.num_layers > 0 && layout.num_kv_heads > 0 && layout.head_dim > 0 &&
         layout.value_dim > 0 && layout.head_dim <= 4096 && layout.value_dim <= 4096;
}

}  // namespace lectern::kernels::internal
