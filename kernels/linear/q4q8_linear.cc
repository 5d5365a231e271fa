#include "kernels/linear/q4q8_linear.h"

#include <algorithm>
#include <vector>

#include "kernels/linear/linear_work.h"
#include "kernels/linear/q4q8_linear_isa.h"

namespace lectern::kernels {
namespace {

static_assert(kBlockChannels == kLinearBlockChannels);

// Rows that share one unpacking of the weights.
constexpr int64_t kItemRows = 72;

const Q4Q8LinearOps& OpsOf(Isa isa) {
  return isa == Isa::kPortable ? kQ4Q8LinearPortable : kQ4Q8LinearAvx2;
}

bool GoodShape(int64_t n, int64_t k, int bits) {
  return n >= 1 && k >= kBlockInputs && k <= kBlockMaxInputs && k % kBlockInputs == 0 &&
         (bits == 4 || bits == 8);
}

LaunchStatus Check(const LinearInput& input, const Q4Q8Matrix& w, const float* y, int64_t y_stride,
                   const ExecutionContext& context) {
  if (!GoodShape(w.n, w.k, w.bits) || y_stride < w.n) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckLinearInput(input, w.k); !Ok(status)) return status;
  if (w.packed == nullptr || reinterpret_cast<uintptr_t>(w.packed) % 64 != 0) {
    return LaunchStatus::kBadArgument;
  }
  if (input.m > 0 && y == nullptr) return LaunchStatus::kBadArgument;
  return CheckContext(context);
}

// Quantised rows of one panel, kept by the calling thread.
class PanelRowsMemory {
 public:
  Q4Q8Rows Reserve(int64_t rows, int64_t blocks) {
    if (codes_.size() < static_cast<size_t>(rows * blocks * kBlockInputs)) {
      codes_.resize(rows * blocks * kBlockInputs);
    }
    if (scales_.size() < static_cast<size_t>(2 * rows * blocks)) scales_.resize(2 * rows * blocks);
    return {codes_.data(), scales_.data(), scales_.data() + rows * blocks};
  }

 private:
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
};

Q4Q8Rows RowsFrom(Q4Q8Rows rows, int64_t row, int64_t blocks) {
  return {rows.codes + row * blocks * kBlockInputs, rows.scale + row * blocks,
          rows.sum + row * blocks};
}

}  // namespace

LaunchStatus Q4Q8Linear(const LinearInput& input, const Q4Q8Matrix& w, float* y, int64_t y_stride,
                        bool accumulate, const ExecutionContext& context) {
  if (LaunchStatus status = Check(input, w, y, y_stride, context); !Ok(status)) return status;
  const Q4Q8LinearOps& ops = OpsOf(context.isa);
  const auto multiply = w.bits == 4 ? ops.multiply4 : ops.multiply8;
  const int64_t blocks = w.k / kBlockInputs;
  const int64_t group_bytes = blocks * static_cast<int64_t>(BlockBytes(w.bits));
  const int64_t panel_rows = PanelRows(input.m, w.k + 8 * blocks, kItemRows);
  thread_local PanelRowsMemory memory;
  const Q4Q8Rows x = memory.Reserve(panel_rows, blocks);
  for (int64_t first_row = 0; first_row < input.m; first_row += panel_rows) {
    const int64_t rows = std::min(panel_rows, input.m - first_row);
    const PanelItems items(rows, w.n, kItemRows);
    const auto quantize = [&](ItemRange range) {
      for (int64_t row = range.begin; row < range.end; ++row) {
        ops.quantize_row(SteppedRow(input, context.isa, first_row + row, w.k), blocks,
                         RowsFrom(x, row, blocks));
      }
    };
    const auto multiply_item = [&](int64_t first, int64_t channels, int64_t row, int64_t count) {
      Q4Q8Product product;
      product.x = RowsFrom(x, row, blocks);
      product.blocks = blocks;
      product.rows = count;
      product.w = w.packed + first / kBlockChannels * group_bytes;
      product.first = static_cast<int>(first % kBlockChannels);
      product.channels = static_cast<int>(channels);
      product.y = y + (first_row + row) * y_stride + first;
      product.y_stride = y_stride;
      product.accumulate = accumulate;
      multiply(product);
    };
    RunPanel(rows, w.k, items, context.num_threads, quantize, multiply_item);
  }
  return LaunchStatus::kOk;
}

size_t PackedQ4Q8Bytes(int64_t n, int64_t k, int bits) {
  const int64_t groups = (n + kBlockChannels - 1) / kBlockChannels;
  return static_cast<size_t>(groups * (k / kBlockInputs)) * BlockBytes(bits);
}

LaunchStatus PackQ4Q8Channel(const Q4Q8Channel& channel, int64_t index, int64_t n, int64_t k,
                             int bits, uint8_t* packed) {
  if (!GoodShape(n, k, bits) || index < 0 || index >= n) return LaunchStatus::kBadShape;
  if (channel.codes == nullptr || channel.scale == nullptr || packed == nullptr ||
      (bits == 4) != (channel.minimum != nullptr)) {
    return LaunchStatus::kBadArgument;
  }
  const int64_t blocks = k / kBlockInputs;
  const int64_t lane = index % kBlockChannels;
  uint8_t* block = packed + index / kBlockChannels * blocks * BlockBytes(bits);
  for (int64_t b = 0; b < blocks; ++b, block += BlockBytes(bits)) {
    const int8_t* codes = channel.codes + b * kBlockInputs;
    const int step = bits == 4 ? 8 : 4;  // inputs of four bytes
    for (int64_t i = 0; i < kBlockInputs; i += step) {
      uint8_t* out = block + i / step * kBlockChannels * 4 + lane * 4;
      for (int j = 0; j < 4; ++j) {
        if (bits == 8) {
          out[j] = static_cast<uint8_t>(codes[i + j]);
          continue;
        }
        const auto low = static_cast<uint8_t>(codes[i + j]);
        const auto high = static_cast<uint8_t>(codes[i + 4 + j]);
        if ((low | high) > 15) return LaunchStatus::kBadArgument;
        out[j] = static_cast<uint8_t>(low | high << 4);
      }
    }
    auto* halves = reinterpret_cast<uint16_t*>(block + BlockCodeBytes(bits));
    halves[lane] = channel.scale[b];
    if (bits == 4) halves[kBlockChannels + lane] = channel.minimum[b];
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
