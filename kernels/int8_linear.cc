#include "kernels/int8_linear.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/hadamard.h"
#include "kernels/int8_linear_isa.h"
#include "kernels/parallel.h"
#include "kernels/row_ops.h"

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

// Quantised rows of one pass stay in a 1 MiB L2 beside a block of weights.
constexpr int64_t kPanelBytes = 768 * 1024;
// Rows of one work item: a multiple of every class's tile height.
constexpr int64_t kChunkRows = 24;
// Up to here quantising is cheaper than the barrier after it.
constexpr int64_t kSerialQuantizeFloats = 8192;

// What a call does to a row before the product.
struct Prologue {
  const Int8LinearOps& ops;
  const RowOps& row_ops;
  const Int8Input& input;
  int64_t k;

  // Quantises a row to q [padded k]; returns its scale.
  float operator()(int64_t row, uint8_t* q) const {
    const float* x = input.x + row * input.stride;
    if (input.step == Int8Input::Step::kNone && input.hadamard == 1) {
      return ops.quantize_row(x, k, q);
    }
    static thread_local std::vector<float> scratch;
    if (scratch.size() < static_cast<size_t>(k)) scratch.resize(k);
    float* changed = scratch.data();
    switch (input.step) {
      case Int8Input::Step::kNone:
        std::copy_n(x, k, changed);
        break;
      case Int8Input::Step::kRmsNorm:
        row_ops.rms_norm(x, k, nullptr, input.rms_eps, changed);
        break;
      case Int8Input::Step::kSwiGlu:
        row_ops.silu_mul(x, x + k, k, changed);
        break;
    }
    const float scale = HadamardScale(input.hadamard);
    for (int64_t i = 0; input.hadamard > 1 && i < k; i += input.hadamard) {
      row_ops.hadamard(changed + i, input.hadamard, scale);
    }
    return ops.quantize_row(changed, k, q);
  }
};

// One call on at most a panel of rows.
struct Panel {
  const Prologue& prologue;
  const Int8Matrix& w;
  int64_t first_row;
  int64_t rows;
  float* y;  // of the first row
  int64_t y_stride;
  bool accumulate;
  uint8_t* q;      // [rows, padded k]
  float* x_scale;  // [rows]

  void Quantize(ItemRange range) const {
    const int64_t width = Int8PaddedInputs(w.k);
    for (int64_t row = range.begin; row < range.end; ++row) {
      x_scale[row] = prologue(first_row + row, q + row * width);
    }
  }

  int64_t Chunks() const { return (rows + kChunkRows - 1) / kChunkRows; }
  // A few rows are cut between half blocks: nine blocks on two threads would be four and five.
  int64_t ItemChannels() const {
    return Chunks() == 1 ? kInt8BlockChannels / 2 : kInt8BlockChannels;
  }
  int64_t Items() const { return (w.n + ItemChannels() - 1) / ItemChannels() * Chunks(); }

  // Items run through all rows of a block of channels before the next block, so that its weights
  // are read once from memory. Two half blocks in a row are done as one.
  void Multiply(ItemRange range) const {
    const int64_t width = Int8PaddedInputs(w.k);
    for (int64_t item = range.begin; item < range.end; ++item) {
      const int64_t first = item / Chunks() * ItemChannels();
      const int64_t row = item % Chunks() * kChunkRows;
      const int64_t offset = first % kInt8BlockChannels;
      int64_t channels = ItemChannels();
      if (Chunks() == 1 && offset == 0 && item + 1 < range.end) {
        channels = kInt8BlockChannels;
        ++item;
      }
      Int8Block block;
      block.x = q + row * width;
      block.groups = width / kInt8Group;
      block.x_scale = x_scale + row;
      block.rows = std::min(kChunkRows, rows - row);
      block.w = w.packed + (first - offset) * width + offset * kInt8Group;
      block.w_scale = w.scale + first;
      block.row_sum = w.row_sum + first;
      block.y = y + row * y_stride + first;
      block.y_stride = y_stride;
      block.channels = static_cast<int>(std::min(channels, w.n - first));
      block.accumulate = accumulate;
      prologue.ops.block(block);
    }
  }
};

// Work items. Threads get unequal shares of the memory's bandwidth, and of a core that others use
// too, so whoever is ahead takes more. Large pieces first, for long streams.
class SharedItems {
 public:
  SharedItems(int64_t count, int threads) : count_(count), threads_(threads) {}

  // An empty range when all is taken.
  ItemRange Take() {
    int64_t begin = next_.load(std::memory_order_relaxed);
    int64_t end = 0;
    do {
      if (begin >= count_) return {count_, count_};
      // Even numbers, so that pairs of half blocks stay together.
      const int64_t share = std::max<int64_t>(2, (count_ - begin) / (2 * threads_) / 2 * 2);
      end = std::min(count_, begin + share);
    } while (!next_.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    return {begin, end};
  }

 private:
  const int64_t count_;
  const int threads_;
  std::atomic<int64_t> next_{0};
};

void RunPanel(const Panel& panel, int num_threads) {
  const int team = static_cast<int>(std::min<int64_t>(num_threads, panel.Items()));
  const bool serial = team == 1 || panel.rows * panel.w.k <= kSerialQuantizeFloats;
  if (serial) panel.Quantize({0, panel.rows});
  SharedItems shared(panel.Items(), team);
  RunTeam(team, [&](int thread, int threads) {
    if (!serial) {
      panel.Quantize(ShareOf(panel.rows, thread, threads));
      TeamBarrier(threads);
    }
    for (ItemRange range = shared.Take(); range.begin < range.end; range = shared.Take()) {
      panel.Multiply(range);
    }
  });
}

LaunchStatus CheckInput(const Int8Input& input, int64_t k) {
  const bool pair = input.step == Int8Input::Step::kSwiGlu;
  if (input.m < 0 || input.stride < (pair ? 2 * k : k)) return LaunchStatus::kBadShape;
  const int64_t block = input.hadamard;
  if (block < 1 || (block & (block - 1)) != 0 || k % block != 0) return LaunchStatus::kBadShape;
  return input.m > 0 && input.x == nullptr ? LaunchStatus::kBadArgument : LaunchStatus::kOk;
}

LaunchStatus Check(const Int8Input& input, const Int8Matrix& w, const float* y, int64_t y_stride,
                   const ExecutionContext& context) {
  if (w.n < 1 || w.k < 1 || w.k > kInt8MaxInputs || y_stride < w.n) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckInput(input, w.k); !Ok(status)) return status;
  if (w.packed == nullptr || w.scale == nullptr || w.row_sum == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  if (reinterpret_cast<uintptr_t>(w.packed) % 64 != 0) return LaunchStatus::kBadArgument;
  if (input.m > 0 && y == nullptr) return LaunchStatus::kBadArgument;
  return CheckContext(context);
}

}  // namespace

LaunchStatus Int8Linear(const Int8Input& input, const Int8Matrix& w, float* y, int64_t y_stride,
                        bool accumulate, const ExecutionContext& context) {
  if (LaunchStatus status = Check(input, w, y, y_stride, context); !Ok(status)) return status;
  const int64_t width = Int8PaddedInputs(w.k);
  const int64_t panel_rows =
      std::min(input.m, std::max(kChunkRows, kPanelBytes / width / kChunkRows * kChunkRows));
  thread_local std::vector<uint8_t> q;
  thread_local std::vector<float> x_scale;
  if (q.size() < static_cast<size_t>(panel_rows * width)) q.resize(panel_rows * width);
  if (x_scale.size() < static_cast<size_t>(panel_rows)) x_scale.resize(panel_rows);
  const Prologue prologue{Int8LinearOpsOf(context.isa), RowOpsOf(context.isa), input, w.k};
  for (int64_t row = 0; row < input.m; row += panel_rows) {
    const Panel panel{prologue,           w,        row,        std::min(panel_rows, input.m - row),
                      y + row * y_stride, y_stride, accumulate, q.data(),
                      x_scale.data()};
    RunPanel(panel, context.num_threads);
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
