// Reproduces golden/topk_ff with the gathered layer on every instruction set of this machine: all
// rows in one call, and each row alone, which reads only the kept units.
//
// Outputs are held to the tolerance of the file (ten times the error of an independent fp32
// computation). Kept units must be the same: the cases keep ranks apart by 1e-5 of the largest one,
// or tie exactly.
#include <gtest/gtest.h>

#include <set>

#include "bench/gathered_ffn/gathered_ffn.h"
#include "tests/kernels/ffn/topk_ff_case.h"
#include "tests/kernels/isa_test.h"
#include "tests/testing/golden.h"

namespace lectern::bench {
namespace {

using kernels::ActivationOf;
using kernels::AllIsas;
using kernels::DotProduct;
using kernels::ExecutionContext;
using kernels::FfnActivation;
using kernels::IsaName;
using kernels::IsaTest;
using kernels::Ok;

using test::GoldenCase;
using test::GoldenTensor;
using test::GoldenTensors;

class GatheredFfnGoldenTest : public IsaTest {};

UnitRank RankOf(const std::string& rule) {
  if (rule == "pre" || rule == "gate_pre") return UnitRank::kPre;
  if (rule == "abs" || rule == "gate_abs") return UnitRank::kGateAbs;
  if (rule == "product") return UnitRank::kProduct;
  EXPECT_EQ(rule, "norm");
  return UnitRank::kNorm;
}

class CaseRunner {
 public:
  CaseRunner(const GoldenCase& c, const ExecutionContext& context)
      : case_(c), context_(context), data_(c.Load()), x_(data_["x"]) {
    const bool gated = c.params["gated"].get<bool>();
    const GoldenTensor& gate = data_[gated ? "w_gate" : "w_in"];
    const GoldenTensor& down = data_["w_out"];
    weights_ = {.width = gate.shape[1],
                .units = gate.shape[0],
                .out_width = down.shape[1],
                .gate = gate.f32.data(),
                .up = gated ? data_["w_up"].f32.data() : nullptr,
                .down = down.f32.data(),
                .activation = ActivationOf(c.params["act"].get<std::string>())};
  }

  void CheckAll() {
    for (const auto& rule : case_.params["rules"]) {
      for (const auto& k : case_.params["k"]) Check(rule.get<std::string>(), k.get<int64_t>());
    }
  }

 private:
  int64_t rows() const { return x_.shape[0]; }

  void Check(const std::string& rule, int64_t k) {
    SCOPED_TRACE(rule + ", k = " + std::to_string(k));
    const bool dense = k <= 0 || k >= weights_.units;
    const std::string suffix = dense ? "dense" : rule + ".k" + std::to_string(k);
    std::vector<int32_t> kept(dense ? 0 : rows() * k, -2), alone(dense ? 0 : k);
    std::vector<float> y(rows() * weights_.out_width), y_alone(weights_.out_width);
    UnitSelection selection{.k = k, .rank = RankOf(rule), .kept_units = kept.data()};
    ASSERT_TRUE(
        Ok(TopKFeedForward(x_.f32.data(), rows(), weights_, selection, y.data(), context_)));
    EXPECT_EQ(test::CompareValues(y, data_["y." + suffix].f64, case_.ToleranceOf("y." + suffix)),
              "");
    if (!dense) ExpectSameUnits(kept, data_["index." + suffix], k);

    selection.kept_units = alone.data();
    for (int64_t row = 0; row < rows(); ++row) {
      ASSERT_TRUE(Ok(TopKFeedForward(x_.f32.data() + row * weights_.width, 1, weights_, selection,
                                     y_alone.data(), context_)));
      for (int64_t c = 0; c < weights_.out_width; ++c) {
        ASSERT_EQ(y_alone[c], y[row * weights_.out_width + c]) << "row " << row << " alone";
      }
      if (dense) continue;
      ASSERT_EQ(alone, std::vector<int32_t>(kept.begin() + row * k, kept.begin() + (row + 1) * k));
    }
  }

  // With a ReLU only the units that it lets through count.
  void ExpectSameUnits(const std::vector<int32_t>& got, const GoldenTensor& want, int64_t k) {
    const bool relu = weights_.activation == FfnActivation::kRelu;
    const GoldenTensor& gate = data_[weights_.up == nullptr ? "w_in" : "w_gate"];
    for (int64_t row = 0; row < rows(); ++row) {
      std::set<int32_t> got_set, want_set;
      for (int64_t p = row * k; p < (row + 1) * k; ++p) {
        if (got[p] >= 0) got_set.insert(got[p]);
        const int32_t unit = want.i32[p];
        if (!relu || DotProduct(x_, row, gate, unit) > 0) want_set.insert(unit);
      }
      EXPECT_EQ(got_set, want_set) << "row " << row;
    }
  }

  const GoldenCase& case_;
  const ExecutionContext context_;
  const GoldenTensors data_;
  const GoldenTensor& x_;
  FeedForwardWeights weights_;
};

TEST_P(GatheredFfnGoldenTest, Reproduces) {
  const std::vector<GoldenCase> cases = test::GoldenCases("topk_ff");
  LECTERN_REQUIRE_FILE(!cases.empty(), "topk_ff/cases.json");
  for (const GoldenCase& c : cases) {
    for (const int threads : {1, 2}) {
      SCOPED_TRACE(c.name + ", threads " + std::to_string(threads));
      CaseRunner(c, Context(threads)).CheckAll();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GatheredFfnGoldenTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::bench
