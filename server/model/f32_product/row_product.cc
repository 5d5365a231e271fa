#include "server/model/f32_product/row_product.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "kernels/runtime/thread_team.h"

namespace lectern {
namespace {

constexpr int64_t kPieceRows = 8;
constexpr int64_t kPieceChannels = 256;

// The operands of a product whose rows are a multiple of kPieceRows.
struct Operands {
  const float* x;
  int64_t rows;
  int64_t in;
  const float* w;
  int64_t out;
  float* y;
  bool accumulate;
};

absl::Status MultiplyWholePieces(F32ProductFunction* product, int num_threads,
                                 const Operands& args) {
  Mutex mutex;
  absl::Status first_failure;
  const auto multiply = [&](kernels::ItemRange channels, int /*thread*/) {
    for (int64_t begin = channels.begin; begin < channels.end; begin += kPieceChannels) {
      const int64_t count = std::min(kPieceChannels, channels.end - begin);
      for (int64_t row = 0; row < args.rows; row += kPieceRows) {
        char error[512] = "";
        const int failed = product(args.x + row * args.in, kPieceRows, args.in,
                                   args.w + begin * args.in, count, args.y + row * args.out + begin,
                                   args.out, args.accumulate ? 1 : 0, error, sizeof(error));
        if (failed == 0) continue;
        const MutexLock lock(&mutex);
        first_failure.Update(absl::InternalError(absl::StrCat("matrix product: ", error)));
        return;
      }
    }
  };
  kernels::ForItems(num_threads, {.count = args.out, .step = kPieceChannels}, multiply);
  return first_failure;
}

}  // namespace

absl::Status MultiplyRows(F32ProductFunction* product, int num_threads, const float* x,
                          int64_t rows, int64_t in, const float* w, int64_t out, float* y,
                          bool accumulate) {
  const int64_t whole = rows / kPieceRows * kPieceRows;
  LECTERN_RETURN_IF_ERROR(
      MultiplyWholePieces(product, num_threads, {x, whole, in, w, out, y, accumulate}));
  if (whole == rows) return absl::OkStatus();
  AlignedBuffer<float> input(kPieceRows * in), output(kPieceRows * out);
  float* const filled = std::copy(x + whole * in, x + rows * in, input.data());
  std::fill(filled, input.data() + kPieceRows * in, 0.0f);
  if (accumulate) std::copy(y + whole * out, y + rows * out, output.data());
  LECTERN_RETURN_IF_ERROR(MultiplyWholePieces(
      product, num_threads, {input.data(), kPieceRows, in, w, out, output.data(), accumulate}));
  std::copy_n(output.data(), (rows - whole) * out, y + whole * out);
  return absl::OkStatus();
}

}  // namespace lectern
