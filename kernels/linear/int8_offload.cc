#include "kernels/linear/int8_offload.h"

#include "kernels/linear/int8_linear_isa.h"
#include "kernels/linear/linear_work.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::kernels {
namespace {

// The offset that quantize_row adds to every integer.
uint8_t ActivationOffset(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return 128;
    case Isa::kAvx2:
      return 64;
    case Isa::kPortable:
      break;
  }
  return 0;
}

}  // namespace

LaunchStatus QuantizeInt8Rows(const LinearInput& input, int64_t k, int8_t* q, float* x_scale,
                              const ExecutionContext& context) {
  if (k < 1 || k > kInt8MaxInputs) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckLinearInput(input, k); !Ok(status)) return status;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (input.m == 0) return LaunchStatus::kOk;
  if (q == nullptr || x_scale == nullptr) return LaunchStatus::kBadArgument;
  const int64_t width = Int8PaddedInputs(k);
  const Int8LinearOps& ops = Int8LinearOpsOf(context.isa);
  const uint8_t offset = ActivationOffset(context.isa);
  ForItems(context.num_threads, {.count = input.m}, [&](ItemRange range, int) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      uint8_t* bytes = reinterpret_cast<uint8_t*>(q + row * width);
      x_scale[row] = ops.quantize_row(SteppedRow(input, context.isa, row, k), k, bytes);
      for (int64_t i = 0; i < width; ++i) bytes[i] = static_cast<uint8_t>(bytes[i] - offset);
    }
  });
  return LaunchStatus::kOk;
}

LaunchStatus FinishInt8Sums(const int32_t* sums, const float* x_scale, int64_t m,
                            const Int8Matrix& w, float* y, int64_t y_stride, bool accumulate,
                            const ExecutionContext& context) {
  if (m < 0 || w.n < 1 || y_stride < w.n) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (m == 0) return LaunchStatus::kOk;
  if (sums == nullptr || x_scale == nullptr || w.scale == nullptr || y == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  const int64_t sums_stride = PaddedChannels(w.n);
  ForItems(context.num_threads, {.count = m}, [&](ItemRange range, int) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      const int32_t* sum = sums + row * sums_stride;
      float* out = y + row * y_stride;
      for (int64_t c = 0; c < w.n; ++c) {
        const float value = static_cast<float>(sum[c]) * (x_scale[row] * w.scale[c]);
        out[c] = accumulate ? out[c] + value : value;
      }
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
