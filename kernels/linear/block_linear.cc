#include "kernels/linear/block_linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/linear/block_linear_isa.h"
#include "kernels/linear/linear_work.h"

namespace lectern::kernels {
namespace {

static_assert(kBlockChannels == kLinearBlockChannels);

// Rows that share one unpacking of the weights.
constexpr int64_t kItemRows = 72;

const BlockLinearOps& OpsOf(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return kBlockLinearAvx512;
    case Isa::kAvx2:
      return kBlockLinearAvx2;
    case Isa::kPortable:
      break;
  }
  return kBlockLinearPortable;
}

bool GoodForm(BlockForm form) {
  switch (form.bits) {
    case 4:
    case 5:
      return true;
    case 6:
      return form.two_levels;
    default:
      return form.bits == 8 && !form.two_levels;
  }
}

bool GoodShape(int64_t n, int64_t k, BlockForm form) {
  return n >= 1 && k >= kBlockInputs && k <= kBlockMaxInputs && GoodForm(form) &&
         k % (form.two_levels ? kSuperInputs : kBlockInputs) == 0;
}

int64_t Groups(int64_t n) { return (n + kBlockChannels - 1) / kBlockChannels; }

LaunchStatus Check(const LinearInput& input, std::span<const BlockMatrix> parts, const float* y,
                   int64_t y_stride, const ExecutionContext& context) {
  if (parts.empty()) return LaunchStatus::kBadShape;
  int64_t n = 0;
  for (const BlockMatrix& part : parts) {
    if (!GoodShape(part.n, part.k, part.form) || part.k != parts[0].k) {
      return LaunchStatus::kBadShape;
    }
    n += part.n;
  }
  if (y_stride < n) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckLinearInput(input, parts[0].k); !Ok(status)) return status;
  for (const BlockMatrix& part : parts) {
    if (part.packed == nullptr || reinterpret_cast<uintptr_t>(part.packed) % 64 != 0) {
      return LaunchStatus::kBadArgument;
    }
  }
  if (input.m > 0 && y == nullptr) return LaunchStatus::kBadArgument;
  return CheckContext(context);
}

// Quantised rows of one panel, kept by the calling thread.
class PanelRowsMemory {
 public:
  BlockRows Reserve(int64_t rows, int64_t blocks) {
    const auto count = static_cast<size_t>(rows * blocks);
    if (codes_.size() < count * kBlockInputs) codes_.resize(count * kBlockInputs);
    if (floats_.size() < 2 * count) floats_.resize(2 * count);
    if (sums_.size() < 2 * count) sums_.resize(2 * count);
    return {codes_.data(), floats_.data(), floats_.data() + count, sums_.data()};
  }

 private:
  std::vector<int8_t> codes_;
  std::vector<float> floats_;
  std::vector<int32_t> sums_;
};

BlockRows RowsFrom(BlockRows rows, int64_t row, int64_t blocks) {
  const int64_t at = row * blocks;
  return {rows.codes + at * kBlockInputs, rows.scale + at, rows.sum + at, rows.minus_32 + 2 * at};
}

void Store32(uint8_t* to, uint64_t bytes) {
  const auto four = static_cast<uint32_t>(bytes);
  std::memcpy(to, &four, sizeof(four));
}

// A byte repeated eight times: eight codes are packed at once, each in its byte of a word.
constexpr uint64_t Bytes(uint8_t byte) { return uint64_t{0x0101010101010101} * byte; }

// Writes the codes of a block into a channel's lane of it. False for a code outside its range.
template <int kBits>
bool PackCodes(const int8_t* from, uint8_t* lane) {
  uint64_t upper[2] = {0, 0};  // bytes j and 4 + j: of inputs j and 4 + j of each eight
  uint64_t excess = 0;
  for (int eight = 0; eight < kBlockInputs / 8; ++eight) {
    uint64_t codes;
    std::memcpy(&codes, from + 8 * eight, sizeof(codes));
    if constexpr (kBits == 8) {
      Store32(lane + 2 * eight * kBlockGroupBytes, codes);
      Store32(lane + (2 * eight + 1) * kBlockGroupBytes, codes >> 32);
      continue;
    }
    // -32 is stored as 0; no byte carries into the next.
    if constexpr (kBits == 6) codes = ((codes & Bytes(0x7F)) + Bytes(32)) ^ (codes & Bytes(0x80));
    excess |= codes & Bytes(0xFF ^ ((1 << kBits) - 1));
    const uint64_t nibbles = codes & Bytes(15);
    Store32(lane + eight * kBlockGroupBytes, nibbles | nibbles >> 28);
    const uint64_t rest = codes >> 4 & Bytes(15);
    if constexpr (kBits == 5) upper[0] |= rest << 2 * eight;
    if constexpr (kBits == 6) upper[eight / 2] |= rest << 4 * (eight % 2);
  }
  uint8_t* const planes = lane + kBlockNibbleBytes;
  if constexpr (kBits == 5) Store32(planes, upper[0] | upper[0] >> 31);
  if constexpr (kBits == 6) {
    Store32(planes, upper[0] | upper[0] >> 30);
    Store32(planes + kBlockGroupBytes, upper[1] | upper[1] >> 30);
  }
  return excess == 0;
}

// Writes a channel into lane `lane` of its group.
template <int kBits>
LaunchStatus PackChannel(const BlockChannel& channel, BlockForm form, int64_t blocks, int64_t lane,
                         uint8_t* group) {
  constexpr int kScales = BlockScales(kBits);
  uint8_t* block = group;
  for (int64_t b = 0; b < blocks; ++b, block += BlockBytes(form)) {
    if (form.two_levels && b % kSuperBlocks == 0) {
      auto* halves = reinterpret_cast<uint16_t*>(block) + lane;
      halves[0] = channel.scale[b / kSuperBlocks];
      if (form.has_minimum()) halves[kBlockChannels] = channel.minimum[b / kSuperBlocks];
      block += SuperBytes(form);
    }
    if (!PackCodes<kBits>(channel.codes + b * kBlockInputs, block + 4 * lane)) {
      return LaunchStatus::kBadArgument;
    }
    uint8_t* scales = block + BlockCodeBytes(kBits);
    const auto put = [&](int place, const uint16_t* halves, const uint8_t* bytes, int64_t from) {
      const int64_t at = place * kBlockChannels + lane;
      if (form.two_levels) {
        scales[at] = bytes[from];
      } else {
        reinterpret_cast<uint16_t*>(scales)[at] = halves[from];
      }
    };
    for (int part = 0; part < kScales; ++part) {
      put(part, channel.scale, channel.sub_scale, b * kScales + part);
    }
    if (form.has_minimum()) put(1, channel.minimum, channel.sub_minimum, b);
  }
  return LaunchStatus::kOk;
}

}  // namespace

LaunchStatus BlockLinear(const LinearInput& input, std::span<const BlockMatrix> parts, float* y,
                         int64_t y_stride, bool accumulate, const ExecutionContext& context) {
  if (LaunchStatus status = Check(input, parts, y, y_stride, context); !Ok(status)) return status;
  const BlockLinearOps& ops = OpsOf(context.isa);
  const int64_t k = parts[0].k, blocks = k / kBlockInputs;
  int64_t groups = 0;
  for (const BlockMatrix& part : parts) groups += Groups(part.n);
  const int64_t panel_rows = PanelRows(input.m, k + 16 * blocks, kItemRows);
  thread_local PanelRowsMemory memory;
  const BlockRows x = memory.Reserve(panel_rows, blocks);
  for (int64_t first_row = 0; first_row < input.m; first_row += panel_rows) {
    const int64_t rows = std::min(panel_rows, input.m - first_row);
    const PanelItems items(rows, groups * kBlockChannels, kItemRows);
    const auto quantize = [&](ItemRange range) {
      for (int64_t row = range.begin; row < range.end; ++row) {
        ops.quantize_row(SteppedRow(input, context.isa, first_row + row, k), blocks,
                         RowsFrom(x, row, blocks));
      }
    };
    // `channel` counts those that fill up the last group of a part too.
    const auto multiply = [&](int64_t channel, int64_t channels, int64_t row, int64_t count) {
      const BlockMatrix* part = parts.data();
      float* out = y + (first_row + row) * y_stride;
      for (; channel >= Groups(part->n) * kBlockChannels; ++part) {
        channel -= Groups(part->n) * kBlockChannels;
        out += part->n;
      }
      if (channel >= part->n) return;
      BlockProduct product;
      product.x = RowsFrom(x, row, blocks);
      product.blocks = blocks;
      product.rows = count;
      product.w = part->packed + channel / kBlockChannels * GroupBytes(part->form, blocks);
      product.form = part->form;
      product.first = static_cast<int>(channel % kBlockChannels);
      product.channels = static_cast<int>(std::min(channels, part->n - channel));
      product.y = out + channel;
      product.y_stride = y_stride;
      product.accumulate = accumulate;
      ops.multiply(product);
    };
    RunPanel(rows, k, items, context.num_threads, quantize, multiply);
  }
  return LaunchStatus::kOk;
}

size_t PackedBlockBytes(int64_t n, int64_t k, BlockForm form) {
  return static_cast<size_t>(Groups(n) * GroupBytes(form, k / kBlockInputs));
}

LaunchStatus PackBlockChannel(const BlockChannel& channel, int64_t index, int64_t n, int64_t k,
                              BlockForm form, uint8_t* packed) {
  if (!GoodShape(n, k, form) || index < 0 || index >= n) return LaunchStatus::kBadShape;
  const bool sub_minimum = form.two_levels && form.has_minimum();
  if (channel.codes == nullptr || channel.scale == nullptr || packed == nullptr ||
      form.has_minimum() != (channel.minimum != nullptr) ||
      form.two_levels != (channel.sub_scale != nullptr) ||
      sub_minimum != (channel.sub_minimum != nullptr)) {
    return LaunchStatus::kBadArgument;
  }
  const int64_t blocks = k / kBlockInputs, lane = index % kBlockChannels;
  uint8_t* group = packed + index / kBlockChannels * GroupBytes(form, blocks);
  switch (form.bits) {
    case 4:
      return PackChannel<4>(channel, form, blocks, lane, group);
    case 5:
      return PackChannel<5>(channel, form, blocks, lane, group);
    case 6:
      return PackChannel<6>(channel, form, blocks, lane, group);
    default:
      return PackChannel<8>(channel, form, blocks, lane, group);
  }
}

}  // namespace lectern::kernels
