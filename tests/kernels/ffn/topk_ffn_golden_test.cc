// Reproduces golden/topk_ff with the kernels that the models use, activate and topk_ffn, on every
// instruction set of this machine. The products before and after them are computed here in double
// precision, so that an error in y comes from these kernels.
//
// Outputs are held to the tolerance of the file (ten times the error of an independent fp32
// computation). Kept units must be the same: the cases keep ranks apart by 1e-5 of the largest one,
// or tie exactly. The rule "norm" is not offered by these kernels
// (tests/bench/gathered_ffn_golden_test).
#include "kernels/ffn/topk_ffn.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "kernels/ffn/activate.h"
#include "tests/kernels/ffn/topk_ff_case.h"
#include "tests/kernels/isa_test.h"
#include "tests/testing/golden.h"

namespace lectern::kernels {
namespace {

using test::GoldenCase;
using test::GoldenTensor;
using test::GoldenTensors;

class TopKFfnGoldenTest : public IsaTest {};

const std::map<std::string, FfnRank> kRanks = {{"pre", FfnRank::kPre},
                                               {"gate_pre", FfnRank::kPre},
                                               {"abs", FfnRank::kGateAbs},
                                               {"gate_abs", FfnRank::kGateAbs},
                                               {"product", FfnRank::kProduct}};

class CaseRunner {
 public:
  CaseRunner(const GoldenCase& c, const ExecutionContext& context)
      : case_(c),
        context_(context),
        data_(c.Load()),
        gated_(c.params["gated"].get<bool>()),
        activation_(ActivationOf(c.params["act"].get<std::string>())),
        rows_(data_["x"].shape[0]),
        units_(data_[gated_ ? "w_gate" : "w_in"].shape[0]) {
    gate_ = Products(data_[gated_ ? "w_gate" : "w_in"]);
    std::vector<float> up;
    if (gated_) up = Products(data_["w_up"]);
    activated_.resize(rows_ * units_);
    EXPECT_TRUE(Ok(Activate(activation_, gate_.data(), units_, gated_ ? up.data() : nullptr, units_,
                            rows_, units_, activated_.data(), units_, context_)));
  }

  // Returns the number of checks.
  int CheckAll() {
    int checks = 0;
    for (const auto& rule : case_.params["rules"]) {
      const auto rank = kRanks.find(rule.get<std::string>());
      if (rank == kRanks.end()) {
        EXPECT_EQ(rule, "norm");
        continue;
      }
      for (const auto& k : case_.params["k"]) {
        Check(rank->first, rank->second, k.get<int64_t>());
        ++checks;
      }
    }
    return checks;
  }

 private:
  std::vector<float> Products(const GoldenTensor& w) {
    std::vector<float> products(rows_ * units_);
    for (int64_t i = 0; i < rows_ * units_; ++i) {
      products[i] = static_cast<float>(DotProduct(data_["x"], i / units_, w, i % units_));
    }
    return products;
  }

  void Check(const std::string& rule, FfnRank rank, int64_t k) {
    SCOPED_TRACE(rule + ", k = " + std::to_string(k));
    const bool dense = k <= 0 || k >= units_;
    const std::string suffix = dense ? "dense" : rule + ".k" + std::to_string(k);
    std::vector<float> kept = activated_;
    if (!dense) {
      ASSERT_TRUE(Ok(TopKFfn(gate_.data(), units_, activation_, rank, k, rows_, units_, kept.data(),
                             units_, context_)));
    }
    const GoldenTensor& down = data_["w_out"];
    const int64_t width = down.shape[1];
    std::vector<float> y(rows_ * width);
    for (int64_t i = 0; i < rows_ * width; ++i) {
      double sum = 0;
      for (int64_t u = 0; u < units_; ++u) {
        const double hidden = kept[i / width * units_ + u];
        if (hidden != 0) sum += hidden * down.f32[u * width + i % width];
      }
      y[i] = static_cast<float>(sum);
    }
    EXPECT_EQ(test::CompareValues(y, data_["y." + suffix].f64, case_.ToleranceOf("y." + suffix)),
              "");
    if (!dense) ExpectSameUnits(kept, data_["index." + suffix], k);
  }

  // Units whose activation is 0 anyway, as after a ReLU, do not count.
  void ExpectSameUnits(const std::vector<float>& kept, const GoldenTensor& want, int64_t k) const {
    for (int64_t row = 0; row < rows_; ++row) {
      std::set<int32_t> got_set, want_set;
      for (int64_t u = 0; u < units_; ++u) {
        if (kept[row * units_ + u] != 0) got_set.insert(static_cast<int32_t>(u));
      }
      for (int64_t p = row * k; p < (row + 1) * k; ++p) {
        if (activated_[row * units_ + want.i32[p]] != 0) want_set.insert(want.i32[p]);
      }
      EXPECT_EQ(got_set, want_set) << "row " << row;
    }
  }

  const GoldenCase& case_;
  const ExecutionContext context_;
  const GoldenTensors data_;
  const bool gated_;
  const FfnActivation activation_;
  const int64_t rows_, units_;
  std::vector<float> gate_, activated_;  // [rows, units]
};

TEST_P(TopKFfnGoldenTest, Reproduces) {
  const std::vector<GoldenCase> cases = test::GoldenCases("topk_ff");
  LECTERN_REQUIRE_FILE(!cases.empty(), "topk_ff/cases.json");
  int checks = 0;
  for (const GoldenCase& c : cases) {
    for (const int threads : {1, 2}) {
      SCOPED_TRACE(c.name + ", threads " + std::to_string(threads));
      checks += CaseRunner(c, Context(threads)).CheckAll();
    }
  }
  EXPECT_GT(checks, 0);
}

INSTANTIATE_TEST_SUITE_P(All, TopKFfnGoldenTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::kernels
