#include <algorithm>
#include <vector>

#include "kernels/linear/int8_linear.h"
#include "kernels/linear/int8_linear_isa.h"

namespace lectern::kernels {
namespace {

// The byte of channel `row`, input 0; input i is at + i / 4 * 256 + i % 4.
int8_t* ChannelBytes(int8_t* packed, int64_t row, int64_t k) {
  return packed + row / kInt8BlockChannels * kInt8BlockChannels * Int8PaddedInputs(k) +
         row % kInt8BlockChannels * kInt8Group;
}

void WriteChannel(const int8_t* q, int64_t k_padded, int8_t* out) {
  for (int64_t i = 0; i < k_padded; i += kInt8Group) {
    std::copy_n(q + i, kInt8Group, out + i * kInt8BlockChannels);
  }
}

}  // namespace

int64_t PaddedChannels(int64_t n) {
  return (n + kInt8BlockChannels - 1) / kInt8BlockChannels * kInt8BlockChannels;
}

size_t PackedInt8Bytes(int64_t n, int64_t k) {
  return static_cast<size_t>(PaddedChannels(n)) * static_cast<size_t>(Int8PaddedInputs(k));
}

LaunchStatus PackInt8Rows(const float* w, int64_t first_row, int64_t rows, int64_t n, int64_t k,
                          int8_t* packed, float* scale, int32_t* row_sum) {
  if (n < 1 || k < 1 || k > kInt8MaxInputs) return LaunchStatus::kBadShape;
  if (first_row < 0 || rows < 0 || first_row > n - rows) return LaunchStatus::kBadShape;
  if (rows == 0) return LaunchStatus::kOk;
  if (w == nullptr || packed == nullptr || scale == nullptr || row_sum == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  const Int8LinearOps& ops = Int8LinearOpsOf(DefaultIsa());
  const int64_t k_padded = Int8PaddedInputs(k);
  std::vector<int8_t> q(k_padded, 0);
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    scale[row] = ops.quantize_weights(w + (row - first_row) * k, k, q.data(), &row_sum[row]);
    WriteChannel(q.data(), k_padded, ChannelBytes(packed, row, k));
  }
  if (first_row + rows < n) return LaunchStatus::kOk;
  std::fill(q.begin(), q.end(), int8_t{0});
  for (int64_t row = n; row < PaddedChannels(n); ++row) {
    scale[row] = 0.0f;
    row_sum[row] = 0;
    WriteChannel(q.data(), k_padded, ChannelBytes(packed, row, k));
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
