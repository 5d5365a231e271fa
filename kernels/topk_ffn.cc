#include "kernels/topk_ffn.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/parallel.h"

namespace lectern::kernels {
namespace {

// The k-th largest of `ranks`, and how many of the ones equal to it stay.
struct Bound {
  float rank;
  int64_t ties;
};

Bound BoundOf(const std::vector<float>& ranks, int64_t k, std::vector<float>& scratch) {
  scratch = ranks;
  std::nth_element(scratch.begin(), scratch.begin() + (k - 1), scratch.end(),
                   std::greater<float>());
  const float bound = scratch[k - 1];
  const int64_t above =
      std::count_if(ranks.begin(), ranks.end(), [bound](float rank) { return rank > bound; });
  return {bound, k - above};
}

}  // namespace

LaunchStatus TopKFfn(const float* gate, int64_t gate_stride, FfnRank rank, int64_t k, int64_t rows,
                     int64_t cols, float* activated, int64_t activated_stride,
                     const ExecutionContext& context) {
  if (rows < 0 || cols <= 0 || activated_stride < cols) return LaunchStatus::kBadShape;
  if (k <= 0 || context.num_threads < 1) return LaunchStatus::kBadArgument;
  if (k >= cols || rows == 0) return LaunchStatus::kOk;
  if (activated == nullptr) return LaunchStatus::kBadArgument;
  if (rank == FfnRank::kGateAbs && (gate == nullptr || gate_stride < cols)) {
    return LaunchStatus::kBadArgument;
  }
  RunTeam(rows > 1 ? context.num_threads : 1, [&](int thread, int threads) {
    std::vector<float> ranks(cols), scratch;
    const ItemRange share = ShareOf(rows, thread, threads);
    for (int64_t row = share.begin; row < share.end; ++row) {
      float* values = activated + row * activated_stride;
      for (int64_t c = 0; c < cols; ++c) {
        const float g = rank == FfnRank::kGateAbs ? gate[row * gate_stride + c] : 0.0f;
        const float r =
            rank == FfnRank::kGateAbs ? std::fabs(g / (1.0f + std::exp(-g))) : std::fabs(values[c]);
        ranks[c] = std::isnan(r) ? -1.0f : r;
      }
      Bound bound = BoundOf(ranks, k, scratch);
      for (int64_t c = 0; c < cols; ++c) {
        if (ranks[c] > bound.rank || (ranks[c] == bound.rank && bound.ties-- > 0)) continue;
        values[c] = 0.0f;
      }
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
