// The attention settings of a request, and the policy that they mean for a model.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/error_details.h"
#include "server/model/attention_policy.h"

namespace lectern {

struct ModelInfo;

// A preset, for clients that do not choose k themselves.
enum class Quality {
  kDefault,  // the default policy of the model that answers
  kHigh,     // that policy with every limit doubled; no query keeps less than by default
  kExact,    // nothing is left out
};

// The policy fields that a request sets.
class PolicyOverrides {
 public:
  template <typename Value>
  PolicyOverrides& Set(Value AttentionPolicy::*member, const std::type_identity_t<Value>& value) {
    values_.*member = value;
    set_.set(Index(FieldOf(member)));
    return *this;
  }
  void Set(const PolicyField& field, std::span<const int64_t> values) {
    field.Set(values, values_);
    set_.set(Index(field));
  }

  bool Has(const PolicyField& field) const { return set_.test(Index(field)); }
  template <typename Value>
  bool Has(Value AttentionPolicy::*member) const {
    return Has(FieldOf(member));
  }
  bool empty() const { return set_.none(); }
  // Meaningful in the fields that are set.
  const AttentionPolicy& values() const { return values_; }

 private:
  static size_t Index(const PolicyField& field) {
    return static_cast<size_t>(&field - kPolicyFields.data());
  }

  AttentionPolicy values_;
  std::bitset<kPolicyFields.size()> set_;
};

// Fields that are unset come from the default policy of the model that answers.
struct AttentionChoice {
  Quality quality = Quality::kDefault;  // excludes every other field
  bool exact = false;                   // excludes every other field
  PolicyOverrides overrides;
  std::optional<double> max_error;
  bool fall_back_to_exact = false;
};

// Adds a violation for each field that is out of range or that `model` does not offer.
void CheckAttention(const AttentionChoice& choice, const ModelInfo& model,
                    std::vector<FieldViolation>& violations);

// The policy that a checked choice means for `model`, with nothing left unset. Equal policies are
// in one form and compare equal.
AttentionPolicy ResolvePolicy(const AttentionChoice& choice, const ModelInfo& model);

}  // namespace lectern
