#include "kernels/linear/int8_linear.h"

#include <algorithm>
#include <vector>

#include "kernels/linear/int8_linear_isa.h"
#include "kernels/linear/linear_work.h"

namespace lectern::kernels {

const Int8LinearOps& Int8LinearOpsOf(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return kInt8LinearAvx512;
    case Isa::kAvx2:
      return kInt8LinearAvx2;
    case Isa::kPortable:
      break;
  }
  return kInt8LinearPortable;
}

namespace {

static_assert(kInt8BlockChannels == kLinearBlockChannels);
static_assert(kInt8BlockRows % kLinearRowStep == 0);

// The product of at most a panel of rows.
struct Int8Panel {
  const Int8LinearOps& ops;
  const Int8Matrix& w;
  int64_t rows;
  float* y;  // of the first row
  int64_t y_stride;
  bool accumulate;
  uint8_t* q;      // [rows, padded k]
  float* x_scale;  // [rows]

  void Multiply(int64_t first, int64_t channels, int64_t row, int64_t count) const {
    const int64_t width = Int8PaddedInputs(w.k);
    const int64_t offset = first % kInt8BlockChannels;
    Int8Block block;
    block.x = q + row * width;
    block.groups = width / kInt8Group;
    block.x_scale = x_scale + row;
    block.rows = count;
    block.w = w.packed + (first - offset) * width + offset * kInt8Group;
    block.w_scale = w.scale + first;
    block.row_sum = w.row_sum + first;
    block.y = y + row * y_stride + first;
    block.y_stride = y_stride;
    block.channels = static_cast<int>(channels);
    block.accumulate = accumulate;
    ops.block(block);
  }
};

LaunchStatus Check(const LinearInput& input, const Int8Matrix& w, const float* y, int64_t y_stride,
                   const ExecutionContext& context) {
  if (w.n < 1 || w.k < 1 || w.k > kInt8MaxInputs || y_stride < w.n) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckLinearInput(input, w.k); !Ok(status)) return status;
  if (w.packed == nullptr || w.scale == nullptr || w.row_sum == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  if (reinterpret_cast<uintptr_t>(w.packed) % 64 != 0) return LaunchStatus::kBadArgument;
  if (input.m > 0 && y == nullptr) return LaunchStatus::kBadArgument;
  return CheckContext(context);
}

}  // namespace

LaunchStatus Int8Linear(const LinearInput& input, const Int8Matrix& w, float* y, int64_t y_stride,
                        bool accumulate, const ExecutionContext& context) {
  if (LaunchStatus status = Check(input, w, y, y_stride, context); !Ok(status)) return status;
  const int64_t width = Int8PaddedInputs(w.k);
  const int64_t panel_rows = PanelRows(input.m, width, kInt8BlockRows);
  thread_local std::vector<uint8_t> q;
  thread_local std::vector<float> x_scale;
  if (q.size() < static_cast<size_t>(panel_rows * width)) q.resize(panel_rows * width);
  if (x_scale.size() < static_cast<size_t>(panel_rows)) x_scale.resize(panel_rows);
  for (int64_t row = 0; row < input.m; row += panel_rows) {
    const int64_t rows = std::min(panel_rows, input.m - row);
    const Int8Panel panel{Int8LinearOpsOf(context.isa),
                          w,
                          rows,
                          y + row * y_stride,
                          y_stride,
                          accumulate,
                          q.data(),
                          x_scale.data()};
    const PanelItems items(rows, w.n, kInt8BlockRows);
    RunPanel(
        rows, w.k, items, context.num_threads,
        [&](ItemRange range) {
          for (int64_t i = range.begin; i < range.end; ++i) {
            panel.x_scale[i] = panel.ops.quantize_row(SteppedRow(input, context.isa, row + i, w.k),
                                                      w.k, panel.q + i * width);
          }
        },
        [&](auto... item) { panel.Multiply(item...); });
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
