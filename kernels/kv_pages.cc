#include "kernels/kv_pages.h"

#include <algorithm>
#include <cmath>

#include "kernels/kv_layout.h"
#include "kernels/parallel.h"

namespace lectern::kernels {
namespace {

using internal::HeadLayout;
using internal::HeadOffset;
using internal::KvHeadLayout;

float QuantiseRow(const float* x, int n, int8_t* out, int64_t out_step_of_4, int64_t out_step) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  // A row that is not finite keeps its scale, so that the damage shows in the results.
  const float scale = largest / 127.0f;
  const float inverse = largest > 0 && std::isfinite(largest) ? 127.0f / largest : 0.0f;
  for (int i = 0; i < n; ++i) {
    const float scaled = std::clamp(x[i] * inverse, -127.0f, 127.0f);
    out[(i / 4) * out_step_of_4 + (i % 4) * out_step] =
        static_cast<int8_t>(std::isnan(scaled) ? 0 : std::lrintf(scaled));
  }
  return scale;
}

// One layer's part of a page, for one head.
struct HeadView {
  std::byte* base;
  const KvHeadLayout& at;
  const KvPageLayout& layout;

  template <typename T>
  T* Get(size_t offset) const {
    return reinterpret_cast<T*>(base + offset);
  }
};

void WriteKey(const HeadView& head, int slot, const float* key) {
  const int d = head.layout.head_dim;
  if (head.layout.type == KvType::kF32) {
    float* keys = head.Get<float>(head.at.keys);
    for (int c = 0; c < d; ++c) keys[c * kPageTokens + slot] = key[c];
    return;
  }
  int8_t* keys = head.Get<int8_t>(head.at.keys) + slot * 4;
  const int padded = internal::PaddedHeadDim(d);
  for (int c = d; c < padded; ++c) keys[(c / 4) * kPageTokens * 4 + c % 4] = 0;
  head.Get<float>(head.at.key_scale)[slot] = QuantiseRow(key, d, keys, kPageTokens * 4, 1);
  int32_t sum = 0;
  for (int c = 0; c < padded; ++c) sum += keys[(c / 4) * kPageTokens * 4 + c % 4];
  head.Get<int32_t>(head.at.key_start)[slot] = -128 * sum;
}

void WriteValue(const HeadView& head, int slot, const float* value) {
  const int d = head.layout.value_dim;
  if (head.layout.type == KvType::kF32) {
    std::copy(value, value + d, head.Get<float>(head.at.values) + static_cast<int64_t>(slot) * d);
    return;
  }
  int8_t* row = head.Get<int8_t>(head.at.values) + static_cast<int64_t>(slot) * d;
  head.Get<float>(head.at.value_scale)[slot] = QuantiseRow(value, d, row, 4, 1);
}

void ReadValueRow(const HeadView& head, int slot, float* value) {
  const int d = head.layout.value_dim;
  if (head.layout.type == KvType::kF32) {
    const float* row = head.Get<float>(head.at.values) + static_cast<int64_t>(slot) * d;
    std::copy(row, row + d, value);
    return;
  }
  const int8_t* row = head.Get<int8_t>(head.at.values) + static_cast<int64_t>(slot) * d;
  const float scale = head.Get<float>(head.at.value_scale)[slot];
  for (int c = 0; c < d; ++c) value[c] = scale * static_cast<float>(row[c]);
}

// The sum of values before a page, from the page before it.
void StartPage(const HeadView& previous, const HeadView& page, bool first) {
  const int d = page.layout.value_dim;
  float* prefix = page.Get<float>(page.at.value_prefix);
  if (first) {
    std::fill(prefix, prefix + d, 0.0f);
    return;
  }
  const float* before = previous.Get<float>(previous.at.value_prefix);
  std::copy(before, before + d, prefix);
  float value[4096];
  for (int slot = 0; slot < kPageTokens; ++slot) {
    ReadValueRow(previous, slot, value);
    for (int c = 0; c < d; ++c) prefix[c] += value[c];
  }
}

}  // namespace

size_t KvPageLayout::PageBytes() const {
  return HeadLayout(*this).bytes * static_cast<size_t>(num_layers) * num_kv_heads;
}

LaunchStatus WriteKv(const KvPageLayout& layout, std::byte* const* pages, int layer,
                     int64_t position, int64_t count, const float* k, int64_t k_stride,
                     const float* v, int64_t v_stride, const ExecutionContext& context) {
  if (!internal::ValidLayout(layout) || layer < 0 || layer >= layout.num_layers || position < 0 ||
      count < 0 || k_stride < static_cast<int64_t>(layout.num_kv_heads) * layout.head_dim ||
      v_stride < static_cast<int64_t>(layout.num_kv_heads) * layout.value_dim) {
    return LaunchStatus::kBadShape;
  }
  if (count == 0) return LaunchStatus::kOk;
  if (pages == nullptr || k == nullptr || v == nullptr || context.num_threads < 1) {
    return LaunchStatus::kBadArgument;
  }
  const KvHeadLayout at = HeadLayout(layout);
  const int heads = layout.num_kv_heads;
  const auto write_head = [&](int64_t h) {
    const size_t offset = HeadOffset(layout, at, layer, static_cast<int>(h));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t token = position + i;
      const int64_t page = token / kPageTokens;
      const int slot = static_cast<int>(token % kPageTokens);
      const HeadView view{pages[page] + offset, at, layout};
      if (slot == 0) {
        const HeadView previous{page == 0 ? nullptr : pages[page - 1] + offset, at, layout};
        StartPage(previous, view, page == 0);
      }
      WriteKey(view, slot, k + i * k_stride + h * layout.head_dim);
      WriteValue(view, slot, v + i * v_stride + h * layout.value_dim);
    }
  };
  constexpr int64_t kRowsWorthThreads = 16;
  const int useful = count < kRowsWorthThreads ? 1 : heads;
  RunTeam(std::min(context.num_threads, useful), [&](int thread, int threads) {
    const ItemRange range = ShareOf(heads, thread, threads);
    for (int64_t h = range.begin; h < range.end; ++h) write_head(h);
  });
  return LaunchStatus::kOk;
}

LaunchStatus ReadKv(const KvPageLayout& layout, const KvPageTable& table, int layer, int kv_head,
                    int64_t token, float* key, float* value) {
  if (!internal::ValidLayout(layout) || layer < 0 || layer >= layout.num_layers || kv_head < 0 ||
      kv_head >= layout.num_kv_heads || token < 0 || token >= table.num_tokens) {
    return LaunchStatus::kBadShape;
  }
  if (table.pages == nullptr || key == nullptr || value == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  const KvHeadLayout at = HeadLayout(layout);
  const int slot = static_cast<int>(token % kPageTokens);
  const HeadView view{const_cast<std::byte*>(table.pages[token / kPageTokens]) +
                          HeadOffset(layout, at, layer, kv_head),
                      at, layout};
  for (int c = 0; c < layout.head_dim; ++c) {
    key[c] = layout.type == KvType::kF32
                 ? view.Get<float>(at.keys)[c * kPageTokens + slot]
                 : view.Get<float>(at.key_scale)[slot] *
                       static_cast<float>(
                           view.Get<int8_t>(at.keys)[(c / 4) * kPageTokens * 4 + slot * 4 + c % 4]);
  }
  ReadValueRow(view, slot, value);
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
