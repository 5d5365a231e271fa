#include "kernels/int8_linear.h"

#include <algorithm>
#include <vector>

#include "kernels/int8_linear_isa.h"
#include "kernels/parallel.h"

namespace lectern::kernels {
namespace {

// Quantised rows of one pass stay in a 1 MiB L2 beside a block of weights.
constexpr int64_t kPanelBytes = 768 * 1024;
// Rows of one work item: a multiple of every class's tile height.
constexpr int64_t kChunkRows = 24;
// Up to here quantising is cheaper than the barrier after it.
constexpr int64_t kSerialQuantizeFloats = 8192;

const Int8LinearOps& OpsOf(Isa isa) {
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

// One call on at most a panel of rows.
struct Panel {
  const Int8LinearOps& ops;
  const Int8Matrix& w;
  const float* x;
  int64_t rows;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
  bool accumulate;
  uint8_t* q;      // [rows, padded k]
  float* x_scale;  // [rows]

  void Quantize(ItemRange range) const {
    const int64_t width = Int8PaddedInputs(w.k);
    for (int64_t row = range.begin; row < range.end; ++row) {
      x_scale[row] = ops.quantize_row(x + row * x_stride, w.k, q + row * width);
    }
  }

  int64_t Chunks() const { return (rows + kChunkRows - 1) / kChunkRows; }
  int64_t Items() const { return PaddedChannels(w.n) / kInt8BlockChannels * Chunks(); }

  // Items run through all rows of a block of channels before the next block, so that its weights
  // are read once from memory.
  void Multiply(ItemRange range) const {
    const int64_t width = Int8PaddedInputs(w.k);
    for (int64_t item = range.begin; item < range.end; ++item) {
      const int64_t channel = item / Chunks() * kInt8BlockChannels;
      const int64_t row = item % Chunks() * kChunkRows;
      Int8Block block;
      block.x = q + row * width;
      block.groups = width / kInt8Group;
      block.x_scale = x_scale + row;
      block.rows = std::min(kChunkRows, rows - row);
      block.w = w.packed + channel * width;
      block.w_scale = w.scale + channel;
      block.row_sum = w.row_sum + channel;
      block.y = y + row * y_stride + channel;
      block.y_stride = y_stride;
      block.channels = static_cast<int>(std::min<int64_t>(kInt8BlockChannels, w.n - channel));
      block.accumulate = accumulate;
      ops.block(block);
    }
  }
};

void RunPanel(const Panel& panel, int num_threads) {
  const int team = static_cast<int>(std::min<int64_t>(num_threads, panel.Items()));
  const bool serial = team == 1 || panel.rows * panel.w.k <= kSerialQuantizeFloats;
  if (serial) panel.Quantize({0, panel.rows});
  RunTeam(team, [&](int thread, int threads) {
    if (!serial) {
      panel.Quantize(ShareOf(panel.rows, thread, threads));
      TeamBarrier(threads);
    }
    panel.Multiply(ShareOf(panel.Items(), thread, threads));
  });
}

LaunchStatus Check(const float* x, int64_t m, int64_t x_stride, const Int8Matrix& w, const float* y,
                   int64_t y_stride, const ExecutionContext& context) {
  if (m < 0 || w.n < 1 || w.k < 1 || w.k > kInt8MaxInputs) return LaunchStatus::kBadShape;
  if (x_stride < w.k || y_stride < w.n) return LaunchStatus::kBadShape;
  if (w.packed == nullptr || w.scale == nullptr || w.row_sum == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  if (reinterpret_cast<uintptr_t>(w.packed) % 64 != 0) return LaunchStatus::kBadArgument;
  if (m > 0 && (x == nullptr || y == nullptr)) return LaunchStatus::kBadArgument;
  if (context.num_threads < 1) return LaunchStatus::kBadArgument;
  return context.isa <= BestIsa() ? LaunchStatus::kOk : LaunchStatus::kUnsupported;
}

}  // namespace

LaunchStatus Int8Linear(const float* x, int64_t m, int64_t x_stride, const Int8Matrix& w, float* y,
                        int64_t y_stride, bool accumulate, const ExecutionContext& context) {
  if (LaunchStatus status = Check(x, m, x_stride, w, y, y_stride, context); !Ok(status)) {
    return status;
  }
  const int64_t width = Int8PaddedInputs(w.k);
  const int64_t panel_rows =
      std::min(m, std::max(kChunkRows, kPanelBytes / width / kChunkRows * kChunkRows));
  thread_local std::vector<uint8_t> q;
  thread_local std::vector<float> x_scale;
  if (q.size() < static_cast<size_t>(panel_rows * width)) q.resize(panel_rows * width);
  if (x_scale.size() < static_cast<size_t>(panel_rows)) x_scale.resize(panel_rows);
  for (int64_t row = 0; row < m; row += panel_rows) {
    const Panel panel{OpsOf(context.isa), w,
                      x + row * x_stride, std::min(panel_rows, m - row),
                      x_stride,           y + row * y_stride,
                      y_stride,           accumulate,
                      q.data(),           x_scale.data()};
    RunPanel(panel, context.num_threads);
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
