// Which keys the attention of each layer keeps, and which units its feed-forward part. Plain data,
// the same for every model family.
//
// Every field is declared in this file and nowhere else: as a member of AttentionPolicy, and as a
// row of kPolicyFields, which gives its name, range and meaning. Request checks, presets, the
// conversion from and to lectern.v1.AttentionPolicy, the parameters of the Open Inference Protocol
// and the cache key of a document's pages derive from the rows.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/attention/topk_attention.h"
#include "kernels/ffn/topk_ffn.h"

namespace lectern {

struct AttentionPolicy {
  using Tail = kernels::Tail;
  using FfnRank = kernels::FfnRank;

  int64_t top_k = 128;           // keys kept per query; 0 = dense
  std::vector<int64_t> layer_k;  // overrides for layers 0, 1, ...; 0 = dense in that layer
  Tail tail = Tail::kMean;       // what becomes of the dropped softmax mass
  // Full pages of keys that a token and KV head reads in layers that are not dense, 0 = all
  // (kernels/attention/topk_attention.h): an approximation whose cost hardly grows with the
  // document.
  int64_t page_budget = 0;
  // A query that sees at most this many keys attends to all of them, in every layer: below that,
  // selection costs more than it saves (docs/measurements/attention.md).
  int64_t dense_up_to = 0;
  // Feed-forward units kept per token, in every layer; 0 = all (Gupta et al. 2021, section 2.2).
  int64_t ffn_top_k = 0;
  // How units are ranked. kProduct is the most faithful on SwiGLU models
  // (docs/measurements/quality.md).
  FfnRank ffn_rank = FfnRank::kProduct;

  static AttentionPolicy Exact() { return {.top_k = 0, .layer_k = {}, .tail = Tail::kNone}; }

  int64_t KForLayer(int layer) const {
    return layer < static_cast<int>(layer_k.size()) ? layer_k[layer] : top_k;
  }
  // True if nothing is left out in a model with `num_layers` layers.
  bool IsExact(int num_layers) const {
    if (ffn_top_k != 0) return false;
    for (int layer = 0; layer < num_layers; ++layer) {
      if (KForLayer(layer) != 0) return false;
    }
    return true;
  }
  friend bool operator==(const AttentionPolicy&, const AttentionPolicy&) = default;
};

// The server's default policy, unless its flags say otherwise.
inline AttentionPolicy DefaultPolicy() { return {.layer_k = {0}, .dense_up_to = 1024}; }

// The largest count of keys, pages or units that a request may name.
inline constexpr int64_t kMaxTopK = 65536;

// One field of AttentionPolicy. Its value in AttentionPolicy::Exact() must mean "off": cache files
// omit fields with that value, so that files from before a field existed keep their meaning.
struct PolicyField {
  using Member = std::variant<int64_t AttentionPolicy::*, std::vector<int64_t> AttentionPolicy::*,
                              AttentionPolicy::Tail AttentionPolicy::*,
                              AttentionPolicy::FfnRank AttentionPolicy::*>;
  // Where a request may set the field: as the field `name` of lectern.v1.AttentionPolicy and the
  // parameter `name` of the Open Inference Protocol, or nowhere.
  enum class SetBy { kRequests, kModels };
  // Quality::kHigh doubles limits, of which 0 is none, and leaves other fields as they are.
  enum class Kind { kLimit, kThreshold, kEnumeration };

  std::string_view name;
  Member member;
  Kind kind;
  // Range of the value in a request, or of each entry of a list. The enumerators of an enumeration
  // count from 0, in the order of the proto's enum without its UNSPECIFIED.
  int64_t least;
  int64_t most;
  std::string_view meaning;  // a phrase, for help texts
  SetBy set_by = SetBy::kRequests;

  // A list has an entry for each layer, from layer 0 on; any other field has one value.
  bool is_list() const {
    return std::holds_alternative<std::vector<int64_t> AttentionPolicy::*>(member);
  }
  bool InRange(int64_t value) const { return value >= least && value <= most; }

  // The field's value, or a list's entries.
  std::vector<int64_t> Values(const AttentionPolicy& policy) const {
    const auto values = [&](auto which) -> std::vector<int64_t> {
      if constexpr (std::is_same_v<decltype(which), std::vector<int64_t> AttentionPolicy::*>) {
        return policy.*which;
      } else {
        return {static_cast<int64_t>(policy.*which)};
      }
    };
    return std::visit(values, member);
  }
  // Whether Set() may be called: any number of values for a list, else one, and of an enumeration
  // one of its enumerators.
  bool CanHold(std::span<const int64_t> values) const {
    if (is_list()) return true;
    return values.size() == 1 && (kind != Kind::kEnumeration || InRange(values.front()));
  }
  void Set(std::span<const int64_t> values, AttentionPolicy& policy) const {
    const auto set = [&](auto which) {
      using Value = std::remove_reference_t<decltype(policy.*which)>;
      if constexpr (std::is_same_v<Value, std::vector<int64_t>>) {
        (policy.*which).assign(values.begin(), values.end());
      } else {
        policy.*which = static_cast<Value>(values.front());
      }
    };
    std::visit(set, member);
  }
};

inline constexpr auto kPolicyFields = std::to_array<PolicyField>({
    {.name = "top_k",
     .member = &AttentionPolicy::top_k,
     .kind = PolicyField::Kind::kLimit,
     .least = 1,
     .most = kMaxTopK,
     .meaning = "number of keys each query attends to"},
    {.name = "layer_top_k",
     .member = &AttentionPolicy::layer_k,
     .kind = PolicyField::Kind::kLimit,
     .least = 0,
     .most = kMaxTopK,
     .meaning =
         "top-k of layers 0, 1, ... where it differs from top_k; 0: dense attention in that layer"},
    {.name = "tail",
     .member = &AttentionPolicy::tail,
     .kind = PolicyField::Kind::kEnumeration,
     .least = static_cast<int64_t>(AttentionPolicy::Tail::kNone),
     .most = static_cast<int64_t>(AttentionPolicy::Tail::kMean),
     .meaning =
         "where the attention of dropped keys goes. mean: to the mean of their values; none: "
         "to the kept keys, by renormalising"},
    {.name = "page_budget",
     .member = &AttentionPolicy::page_budget,
     .kind = PolicyField::Kind::kLimit,
     .least = 0,
     .most = kMaxTopK,
     .meaning = "number of pages of keys each query reads; 0: all"},
    {.name = "dense_up_to",
     .member = &AttentionPolicy::dense_up_to,
     .kind = PolicyField::Kind::kThreshold,
     .least = 0,
     .most = kMaxTopK,
     .meaning =
         "queries with at most this many visible keys use dense attention, which is faster there"},
    {.name = "ffn_top_k",
     .member = &AttentionPolicy::ffn_top_k,
     .kind = PolicyField::Kind::kLimit,
     .least = 0,
     .most = kMaxTopK,
     .meaning = "number of feed-forward units each token keeps; 0: all"},
    {.name = "ffn_rank",
     .member = &AttentionPolicy::ffn_rank,
     .kind = PolicyField::Kind::kEnumeration,
     .least = static_cast<int64_t>(AttentionPolicy::FfnRank::kProduct),
     .most = static_cast<int64_t>(AttentionPolicy::FfnRank::kPre),
     .meaning = "how feed-forward units are ranked",
     .set_by = PolicyField::SetBy::kModels},
});

// Fails to compile when AttentionPolicy has a member without a row.
inline constexpr size_t PolicyMembers() {
  const auto count = [](const AttentionPolicy& policy) {
    const auto& [a, b, c, d, e, f, g] = policy;
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g;
    return std::integral_constant<size_t, 7>();
  };
  return decltype(count(std::declval<const AttentionPolicy&>()))::value;
}
static_assert(kPolicyFields.size() == PolicyMembers());

// The row of a member. Every member has one.
template <typename Value>
constexpr const PolicyField& FieldOf(Value AttentionPolicy::*member) {
  for (const PolicyField& field : kPolicyFields) {
    if (field.member == PolicyField::Member(member)) return field;
  }
  return kPolicyFields.front();
}

}  // namespace lectern
