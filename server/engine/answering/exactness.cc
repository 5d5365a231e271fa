#include "server/engine/answering/exactness.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"

namespace lectern {

absl::StatusOr<bool> MustRetryExactly(const AnswerRun& run) {
  const AttentionChoice& attention = run.options.attention;
  if (!attention.max_error) return false;
  if (run.kept_mass.count == 0) {
    run.parts.metrics->ExactnessChecked(ExactnessResult::kExact);
    return false;
  }
  const double error = 1 - run.kept_mass.sum / static_cast<double>(run.kept_mass.count);
  const bool within = error <= *attention.max_error;
  run.parts.metrics->ExactnessChecked(within ? ExactnessResult::kWithinBound
                                             : ExactnessResult::kViolated);
  if (within) return false;
  if (attention.fall_back_to_exact) return true;
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the dropped softmax mass is ", error, " on average, above ",
                                *attention.max_error),
                   {.reason = "EXACTNESS",
                    .metadata = {{"error", absl::StrCat(error)},
                                 {"limit", absl::StrCat(*attention.max_error)}}});
}

void FillExactness(int64_t visible_keys, AnswerRun& run) {
  Exactness& exactness = run.answer.exactness;
  const ModelInfo& info = run.model->info();
  const AttentionPolicy& policy = run.policy;
  exactness.exact = run.kept_mass.count == 0 && policy.ffn_top_k == 0;
  if (run.kept_mass.count > 0) {
    exactness.kept_mass_mean = run.kept_mass.sum / static_cast<double>(run.kept_mass.count);
    exactness.kept_mass_min = run.kept_mass.min;
  }
  exactness.policy = policy;
  exactness.numerics = info.numerics;
  exactness.kv_cache = info.kv_cache;
  const auto keys = static_cast<double>(std::max<int64_t>(visible_keys, 1));
  const double selected =
      policy.top_k == 0 ? 1.0 : std::min(1.0, static_cast<double>(policy.top_k) / keys);
  run.parts.metrics->AttentionSampled(run.answer.model, exactness.kept_mass_mean, selected);
  const double units = policy.ffn_top_k == 0 ? 1.0
                                             : static_cast<double>(policy.ffn_top_k) /
                                                   static_cast<double>(info.ffn_units);
  run.parts.metrics->FfnSampled(run.answer.model, std::min(1.0, units));
}

}  // namespace lectern
