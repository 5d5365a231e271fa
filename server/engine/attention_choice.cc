#include "server/engine/attention_choice.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/model/model.h"

namespace lectern {
namespace {

void CheckRange(const PolicyField& field, const std::vector<int64_t>& values,
                const ModelInfo& model, std::vector<FieldViolation>& violations) {
  const std::string name = absl::StrCat("attention.", std::string(field.name));
  const bool in_range = std::all_of(values.begin(), values.end(),
                                    [&](int64_t value) { return field.InRange(value); });
  if (!in_range) {
    violations.push_back({name, absl::StrCat(field.is_list() ? "entries must be " : "must be ",
                                             field.least, " to ", field.most)});
  }
  if (field.is_list() && values.size() > static_cast<size_t>(model.layers)) {
    violations.push_back(
        {name, absl::StrCat("must have at most ", model.layers, " entries, one for each layer")});
  }
}

// Twice as many keys, pages and units. 0 leaves nothing out and stays 0.
AttentionPolicy WithDoubledLimits(AttentionPolicy policy) {
  for (const PolicyField& field : kPolicyFields) {
    if (field.kind != PolicyField::Kind::kLimit) continue;
    std::vector<int64_t> values = field.Values(policy);
    for (int64_t& value : values) value *= 2;
    field.Set(values, policy);
  }
  return policy;
}

}  // namespace

void CheckAttention(const AttentionChoice& choice, const ModelInfo& model,
                    std::vector<FieldViolation>& violations) {
  const PolicyOverrides& overrides = choice.overrides;
  const bool others = !overrides.empty() || choice.max_error || choice.fall_back_to_exact;
  if (choice.quality != Quality::kDefault && (others || choice.exact)) {
    violations.push_back({"quality", "must not be set together with attention"});
  }
  if (choice.exact && others) {
    violations.push_back(
        {"attention.exact", "must not be set together with other fields of attention"});
  }
  for (const PolicyField& field : kPolicyFields) {
    if (!overrides.Has(field)) continue;
    CheckRange(field, field.Values(overrides.values()), model, violations);
  }
  if (overrides.Has(&AttentionPolicy::ffn_top_k) && overrides.values().ffn_top_k != 0 &&
      model.ffn_units == 0) {
    violations.push_back(
        {"attention.ffn_top_k", absl::StrCat("model ", model.name, " does not offer it")});
  }
  if (choice.max_error && !(*choice.max_error >= 0 && *choice.max_error <= 1)) {
    violations.push_back({"attention.max_error", "must be 0 to 1"});
  }
}

AttentionPolicy ResolvePolicy(const AttentionChoice& choice, const ModelInfo& model) {
  if (choice.exact || choice.quality == Quality::kExact) return AttentionPolicy::Exact();
  AttentionPolicy policy = model.default_policy;
  if (choice.quality == Quality::kHigh) policy = WithDoubledLimits(policy);
  const PolicyOverrides& overrides = choice.overrides;
  for (const PolicyField& field : kPolicyFields) {
    if (overrides.Has(field)) field.Set(field.Values(overrides.values()), policy);
  }
  const bool sets_k = overrides.Has(&AttentionPolicy::top_k);
  const bool sets_layers = overrides.Has(&AttentionPolicy::layer_k);
  if (sets_k && !sets_layers) {
    // Layers that the default keeps dense stay dense; its other overrides belong to its own k.
    for (int64_t& k : policy.layer_k) k = k == 0 ? 0 : policy.top_k;
  }
  // A request that chooses k gets it for short texts too.
  if ((sets_k || sets_layers) && !overrides.Has(&AttentionPolicy::dense_up_to)) {
    policy.dense_up_to = 0;
  }
  while (!policy.layer_k.empty() && policy.layer_k.back() == policy.top_k) {
    policy.layer_k.pop_back();
  }
  return policy.IsExact(model.layers) ? AttentionPolicy::Exact() : policy;
}

}  // namespace lectern
