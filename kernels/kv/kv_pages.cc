#include "kernels/kv/kv_pages.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/kv/kv_layout.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/row_ops.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::kernels {
namespace {

using internal::HeadLayout;
using internal::HeadOffset;
using internal::KvHeadLayout;

constexpr int kMaxWidth = 4096;  // of a key or value, see internal::ValidLayout
constexpr float kHuge = std::numeric_limits<float>::infinity();

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

void WriteKey(const HeadView& head, const RowOps& ops, int slot, const float* key) {
  const int d = head.layout.head_dim;
  if (head.layout.type == KvType::kF32) {
    float* keys = head.Get<float>(head.at.keys);
    for (int c = 0; c < d; ++c) keys[c * kPageTokens + slot] = key[c];
    return;
  }
  const int padded = internal::PaddedHeadDim(d);
  int8_t row[kMaxWidth];
  for (int c = d; c < padded; ++c) row[c] = 0;
  head.Get<float>(head.at.key_scale)[slot] = ops.quantize_int8(key, d, row);
  int8_t* keys = head.Get<int8_t>(head.at.keys) + slot * 4;
  int32_t sum = 0;
  for (int c = 0; c < padded; c += 4) {
    std::memcpy(keys + c * kPageTokens, row + c, 4);
    sum += row[c] + row[c + 1] + row[c + 2] + row[c + 3];
  }
  head.Get<int32_t>(head.at.key_start)[slot] = -128 * sum;
}

void WriteValue(const HeadView& head, const RowOps& ops, int slot, const float* value) {
  const int d = head.layout.value_dim;
  if (head.layout.type == KvType::kF32) {
    std::copy(value, value + d, head.Get<float>(head.at.values) + static_cast<int64_t>(slot) * d);
    return;
  }
  int8_t* row = head.Get<int8_t>(head.at.values) + static_cast<int64_t>(slot) * d;
  head.Get<float>(head.at.value_scale)[slot] = ops.quantize_int8(value, d, row);
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

// Computes the sum of values before a page from the previous page.
void StartPage(const HeadView& previous, const HeadView& page, bool first) {
  const int d = page.layout.value_dim;
  float* prefix = page.Get<float>(page.at.value_prefix);
  if (first) {
    std::fill(prefix, prefix + d, 0.0f);
    return;
  }
  const float* before = previous.Get<float>(previous.at.value_prefix);
  std::copy(before, before + d, prefix);
  float value[kMaxWidth];
  for (int slot = 0; slot < kPageTokens; ++slot) {
    ReadValueRow(previous, slot, value);
    for (int c = 0; c < d; ++c) prefix[c] += value[c];
  }
}

// Writes the range of the keys of a full page. Products of fp32 are rounded by 2^-24 at most, so a
// millionth outwards holds for the keys as attention multiplies them out.
void BoundKeys(const HeadView& page) {
  const int d = page.layout.head_dim;
  if (page.layout.type == KvType::kF32) {
    const float* keys = page.Get<float>(page.at.keys);
    for (int c = 0; c < d; ++c) {
      const auto [low, high] =
          std::minmax_element(keys + c * kPageTokens, keys + (c + 1) * kPageTokens);
      page.Get<float>(page.at.key_high)[c] = *high;
      page.Get<float>(page.at.key_low)[c] = *low;
    }
    return;
  }
  constexpr float kOutwards = 1e-6f;
  const float* scale = page.Get<float>(page.at.key_scale);
  float largest = 0;
  // A scale that is not finite makes the unit so, and attention reads the page.
  for (int slot = 0; slot < kPageTokens; ++slot) {
    largest = scale[slot] <= largest ? largest : scale[slot];
  }
  const float unit = largest * (1 + 10 * kOutwards);
  *page.Get<float>(page.at.key_unit) = unit;
  const bool usable = unit > 0 && std::isfinite(unit);
  const float inverse = usable ? 1 / unit : 0;
  const int8_t* keys = page.Get<int8_t>(page.at.keys);
  for (int c = 0; c < d; ++c) {
    const int8_t* channel = keys + (c / 4) * kPageTokens * 4 + c % 4;
    float high = -kHuge, low = kHuge;
    for (int slot = 0; slot < kPageTokens; ++slot) {
      const float key = static_cast<float>(channel[slot * 4]) * scale[slot];
      high = key > high ? key : high;
      low = key < low ? key : low;
    }
    high = usable ? high * inverse : 0;
    low = usable ? low * inverse : 0;
    page.Get<int8_t>(page.at.key_high)[c] =
        static_cast<int8_t>(std::min(127.0f, std::ceil(high + std::fabs(high) * kOutwards)));
    page.Get<int8_t>(page.at.key_low)[c] =
        static_cast<int8_t>(std::max(-127.0f, std::floor(low - std::fabs(low) * kOutwards)));
  }
}

// The arguments of one call that writes, and the writing of its parts.
struct KvWriter {
  const KvPageLayout& layout;
  std::byte* const* pages;
  int layer;
  int64_t position;
  int64_t count;
  const float* k;
  int64_t k_stride;
  const float* v;
  int64_t v_stride;
  const RowOps& ops;
  const KvHeadLayout at = HeadLayout(layout);

  HeadView View(int64_t page, int head) const {
    return {pages[page] + HeadOffset(layout, at, layer, head), at, layout};
  }

  void WriteRow(int64_t row) const {
    const int64_t token = position + row;
    const int slot = static_cast<int>(token % kPageTokens);
    for (int head = 0; head < layout.num_kv_heads; ++head) {
      const HeadView view = View(token / kPageTokens, head);
      WriteKey(view, ops, slot, k + row * k_stride + head * layout.head_dim);
      WriteValue(view, ops, slot, v + row * v_stride + head * layout.value_dim);
    }
  }

  // Writes the sums before the pages that begin in this call, and the key ranges of those that it
  // fills. All rows must have been written.
  void SumUpPages(int head) const {
    const int64_t end = position + count;
    for (int64_t page = position / kPageTokens; page < end / kPageTokens; ++page) {
      BoundKeys(View(page, head));
    }
    for (int64_t page = (position + kPageTokens - 1) / kPageTokens; page * kPageTokens < end;
         ++page) {
      const HeadView view = View(page, head);
      StartPage(page == 0 ? view : View(page - 1, head), view, page == 0);
    }
  }
};

// Threads take rows in pieces of 16 slots, so that two threads write to different cache lines.
constexpr int64_t kPieceTokens = 16;

// Calls prepare(row), which may change the row, and writes it.
template <typename Prepare>
void WriteRows(const KvWriter& writer, const ExecutionContext& context, Prepare prepare) {
  const int64_t first = writer.position / kPieceTokens;
  const int64_t last = (writer.position + writer.count + kPieceTokens - 1) / kPieceTokens;
  const int threads = writer.count < kPieceTokens ? 1 : context.num_threads;
  ForItems(threads, {.count = last - first}, [&](ItemRange pieces, int) {
    const int64_t begin = (first + pieces.begin) * kPieceTokens - writer.position;
    const int64_t end = (first + pieces.end) * kPieceTokens - writer.position;
    const int64_t rows = std::min(end, writer.count);
    for (int64_t row = std::max<int64_t>(begin, 0); row < rows; ++row) {
      prepare(row);
      writer.WriteRow(row);
    }
  });
  ForItems(threads, {.count = writer.layout.num_kv_heads}, [&](ItemRange heads, int) {
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      writer.SumUpPages(static_cast<int>(head));
    }
  });
}

LaunchStatus CheckWrite(const KvWriter& writer, const ExecutionContext& context) {
  const KvPageLayout& layout = writer.layout;
  if (!internal::ValidLayout(layout) || writer.layer < 0 || writer.layer >= layout.num_layers ||
      writer.position < 0 || writer.count < 0 ||
      writer.k_stride < static_cast<int64_t>(layout.num_kv_heads) * layout.head_dim ||
      writer.v_stride < static_cast<int64_t>(layout.num_kv_heads) * layout.value_dim) {
    return LaunchStatus::kBadShape;
  }
  if (writer.count > 0 && (writer.pages == nullptr || writer.k == nullptr || writer.v == nullptr)) {
    return LaunchStatus::kBadArgument;
  }
  return CheckContext(context);
}

LaunchStatus CheckRows(const KvPageLayout& layout, const QkvRows& rows, int64_t position,
                       int64_t count) {
  if (layout.head_dim != layout.value_dim ||
      (rows.rope != nullptr &&
       (rows.rope->head_dim() != layout.head_dim || 2 * rows.rope->pairs() > layout.head_dim))) {
    return LaunchStatus::kBadShape;
  }
  if ((rows.q_norm == nullptr) != (rows.k_norm == nullptr) || !(rows.qk_norm_eps >= 0)) {
    return LaunchStatus::kBadArgument;
  }
  const int64_t heads = rows.num_q_heads + 2 * static_cast<int64_t>(layout.num_kv_heads);
  if (rows.num_q_heads < 1 || rows.stride < heads * layout.head_dim) return LaunchStatus::kBadShape;
  const int64_t block = rows.hadamard;
  if (block < 1 || (block & (block - 1)) != 0 || layout.head_dim % block != 0) {
    return LaunchStatus::kBadShape;
  }
  const bool known =
      rows.rope == nullptr || (position >= 0 && position <= rows.rope->max_positions() - count);
  return known ? LaunchStatus::kOk : LaunchStatus::kBadArgument;
}

// Normalises the queries and keys of a row that starts at x.
void NormaliseQueriesAndKeys(const KvPageLayout& layout, const QkvRows& rows, const RowOps& ops,
                             float* x) {
  const int64_t d = layout.head_dim;
  const auto normalise = [&](int64_t heads, const float* weight) {
    const int64_t width = rows.qk_norm_per_head ? d : heads * d;
    for (int64_t i = 0; i < heads * d; i += width) {
      ops.rms_norm(x + i, width, weight, rows.qk_norm_eps, x + i);
    }
    x += heads * d;
  };
  normalise(rows.num_q_heads, rows.q_norm);
  normalise(layout.num_kv_heads, rows.k_norm);
}

}  // namespace

size_t KvPageLayout::PageBytes() const {
  return HeadLayout(*this).bytes * static_cast<size_t>(num_layers) * num_kv_heads;
}

LaunchStatus WriteKv(const KvPageLayout& layout, std::byte* const* pages, int layer,
                     int64_t position, int64_t count, const float* k, int64_t k_stride,
                     const float* v, int64_t v_stride, const ExecutionContext& context) {
  const KvWriter writer{layout, pages,    layer, position, count,
                        k,      k_stride, v,     v_stride, RowOpsOf(context.isa)};
  if (LaunchStatus status = CheckWrite(writer, context); !Ok(status)) return status;
  if (count > 0) WriteRows(writer, context, [](int64_t) {});
  return LaunchStatus::kOk;
}

LaunchStatus RotateAndWriteKv(const KvPageLayout& layout, std::byte* const* pages, int layer,
                              int64_t position, int64_t count, const QkvRows& rows,
                              const ExecutionContext& context) {
  if (LaunchStatus status = CheckRows(layout, rows, position, count); !Ok(status)) return status;
  const int64_t rotated = rows.num_q_heads + layout.num_kv_heads;
  const float* k = rows.qkv + static_cast<int64_t>(rows.num_q_heads) * layout.head_dim;
  const float* v = rows.qkv + rotated * layout.head_dim;
  const KvWriter writer{layout, pages,       layer, position,    count,
                        k,      rows.stride, v,     rows.stride, RowOpsOf(context.isa)};
  if (rows.qkv == nullptr && count > 0) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckWrite(writer, context); !Ok(status)) return status;
  if (count == 0) return LaunchStatus::kOk;
  if (rows.rope != nullptr) rows.rope->Prepare(position, count);
  const float scale = HadamardScale(rows.hadamard);
  WriteRows(writer, context, [&](int64_t row) {
    float* const first = rows.qkv + row * rows.stride;
    if (rows.q_norm != nullptr) NormaliseQueriesAndKeys(layout, rows, writer.ops, first);
    for (int64_t head = 0; head < rotated; ++head) {
      float* x = first + head * layout.head_dim;
      if (rows.rope != nullptr) {
        writer.ops.rotate(x, rows.rope->cos(position + row), rows.rope->sin(position + row),
                          rows.rope->pairs());
      }
      for (int64_t i = 0; rows.hadamard > 1 && i < layout.head_dim; i += rows.hadamard) {
        writer.ops.hadamard(x + i, rows.hadamard, scale);
      }
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
