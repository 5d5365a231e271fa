// Common parts of int8_linear.cc and block_linear.cc: the step before the product, and how the work
// on a panel of rows is divided between threads. Internal to kernels/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/ffn/ffn_ops_table.h"
#include "kernels/linear/linear_input.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/row_ops.h"
#include "kernels/runtime/launch_status.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::kernels {

// Channels of one packed block of weights.
inline constexpr int64_t kLinearBlockChannels = 64;
// Chunks of rows are multiples of this, as of every class's tile height.
inline constexpr int64_t kLinearRowStep = 12;
// Rows that a thread quantises before it looks for other work.
inline constexpr int64_t kQuantizeRows = 32;
// Quantised rows of one pass stay in a 1 MiB L2 cache together with a block of weights.
inline constexpr int64_t kLinearPanelBytes = 768 * 1024;

// Rows of one pass when each takes `row_bytes` and an item has at most `item_rows`.
inline int64_t PanelRows(int64_t rows, int64_t row_bytes, int64_t item_rows) {
  const int64_t most = kLinearPanelBytes / row_bytes / item_rows * item_rows;
  return std::min(rows, std::max(item_rows, most));
}

inline LaunchStatus CheckLinearInput(const LinearInput& input, int64_t k) {
  const bool pair = input.step == LinearInput::Step::kGated;
  if (input.m < 0 || input.stride < (pair ? 2 * k : k)) return LaunchStatus::kBadShape;
  const int64_t block = input.hadamard;
  if (block < 1 || (block & (block - 1)) != 0 || k % block != 0) return LaunchStatus::kBadShape;
  return input.m > 0 && input.x == nullptr ? LaunchStatus::kBadArgument : LaunchStatus::kOk;
}

// Row `row` after its step [k]: the input's own memory, or scratch of the calling thread that its
// next call overwrites.
inline const float* SteppedRow(const LinearInput& input, Isa isa, int64_t row, int64_t k) {
  const float* x = input.x + row * input.stride;
  if (input.step == LinearInput::Step::kNone && input.hadamard == 1) return x;
  static thread_local std::vector<float> scratch;
  if (scratch.size() < static_cast<size_t>(k)) scratch.resize(k);
  float* changed = scratch.data();
  const RowOps& row_ops = RowOpsOf(isa);
  switch (input.step) {
    case LinearInput::Step::kNone:
      std::copy_n(x, k, changed);
      break;
    case LinearInput::Step::kRmsNorm:
      row_ops.rms_norm(x, k, input.rms_weight, input.rms_eps, changed);
      break;
    case LinearInput::Step::kGated:
      FfnOpsOf(isa).activate(input.activation, x, x + k, k, changed);
      break;
  }
  const float scale = HadamardScale(input.hadamard);
  for (int64_t i = 0; input.hadamard > 1 && i < k; i += input.hadamard) {
    row_ops.hadamard(changed + i, input.hadamard, scale);
  }
  return changed;
}

// The work on a panel: (block of channels) x (chunk of rows), through all chunks of a block before
// the next block, so that its weights are read once from memory.
class PanelItems {
 public:
  // An item has at most `item_rows` rows, a multiple of kLinearRowStep.
  PanelItems(int64_t rows, int64_t channels, int64_t item_rows)
      : rows_(rows), channels_(channels), chunk_rows_(EvenChunk(rows, item_rows)) {}

  int64_t count() const { return (channels_ + ItemChannels() - 1) / ItemChannels() * Chunks(); }
  // How a team takes them: in even numbers, so that pairs of half blocks stay together, and with
  // many rows at most a block at a time, which takes long enough.
  Items AsItems() const {
    return {.count = count(), .step = 2, .most = Chunks() == 1 ? count() : Chunks() + 1};
  }

  // body(first channel, channels, first row, rows) for each item. Channels are a block, or half of
  // one; those of the last one that do not exist are left out.
  template <typename Body>
  void ForEach(ItemRange range, const Body& body) const {
    for (int64_t item = range.begin; item < range.end; ++item) {
      const int64_t first = item / Chunks() * ItemChannels();
      const int64_t row = item % Chunks() * chunk_rows_;
      int64_t channels = ItemChannels();
      // Two half blocks in a row are done as one.
      if (Chunks() == 1 && first % kLinearBlockChannels == 0 && item + 1 < range.end) {
        channels = kLinearBlockChannels;
        ++item;
      }
      body(first, std::min(channels, channels_ - first), row, std::min(chunk_rows_, rows_ - row));
    }
  }

 private:
  static int64_t EvenChunk(int64_t rows, int64_t most) {
    const int64_t chunks = (rows + most - 1) / most;
    return (rows + chunks * kLinearRowStep - 1) / (chunks * kLinearRowStep) * kLinearRowStep;
  }
  int64_t Chunks() const { return (rows_ + chunk_rows_ - 1) / chunk_rows_; }
  // With few rows, threads divide half blocks: nine blocks on two threads would be four and five.
  int64_t ItemChannels() const {
    return Chunks() == 1 ? kLinearBlockChannels / 2 : kLinearBlockChannels;
  }

  const int64_t rows_;
  const int64_t channels_;
  const int64_t chunk_rows_;
};

// Quantises `rows` rows of `inputs` values and multiplies them: quantize(range of rows), then
// multiply(range of items). Threads get unequal shares of the memory bandwidth and of cores
// that other processes use, so the faster ones take more items.
template <typename Quantize, typename Multiply>
void RunPanel(int64_t rows, int64_t inputs, const PanelItems& items, int num_threads,
              const Quantize& quantize, const Multiply& multiply) {
  // Up to this size quantising is cheaper than synchronising after it.
  constexpr int64_t kSerialQuantizeFloats = 8192;
  if (num_threads == 1 || rows * inputs <= kSerialQuantizeFloats) {
    quantize(ItemRange{0, rows});
  } else {
    ForItems(num_threads, {.count = rows, .most = kQuantizeRows},
             [&](ItemRange range, int) { quantize(range); });
  }
  ForItems(num_threads, items.AsItems(),
           [&](ItemRange range, int) { items.ForEach(range, multiply); });
}

}  // namespace lectern::kernels
