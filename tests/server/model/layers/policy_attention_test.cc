// Checks which kernel settings a policy means in a layer with a sliding window.
#include "server/model/layers/policy_attention.h"

#include <gtest/gtest.h>

#include "tests/kernels/attention/attention_problem.h"

namespace lectern {
namespace {

using kernels::kPageTokens;

class PolicyAttentionTest : public testing::Test {
 protected:
  PolicyAttentionTest()
      : problem_(kernels::Problem::Causal(kernels::KvType::kI8, 4, 2, 32, 3, 2000, 1)) {
    problem_.window = 10 * kPageTokens;
  }

  std::vector<float> OutputWithBudget(int64_t page_budget) const {
    const AttentionPolicy policy{.top_k = 40, .tail = Tail::kMean, .page_budget = page_budget};
    kernels::Result result = problem_.Blank(0);
    PolicyAttentionCall call{.args = problem_.Args(&result), .policy = &policy};
    call.args.kept_mass = nullptr;
    call.args.key_mass = nullptr;
    const absl::Status status = PolicyAttention().Run({&call, 1}, 0, {});
    EXPECT_TRUE(status.ok()) << status;
    return result.out;
  }

  // Calls the kernel without a policy.
  std::vector<float> KernelOutputWithBudget(int64_t page_budget) const {
    kernels::Result result = problem_.Blank(0);
    kernels::AttentionArgs args = problem_.Args(&result);
    args.kept_mass = nullptr;
    args.key_mass = nullptr;
    const kernels::TopKParams params{
        .k = 40, .tail = kernels::Tail::kMean, .page_budget = page_budget};
    EXPECT_TRUE(Ok(kernels::TopKAttention({&args, 1}, params, {})));
    return result.out;
  }

  kernels::Problem problem_;

 private:
  using Tail = AttentionPolicy::Tail;
};

TEST_F(PolicyAttentionTest, ABudgetBelowTheWindowHolds) {
  EXPECT_EQ(OutputWithBudget(3), KernelOutputWithBudget(3));
  EXPECT_NE(OutputWithBudget(3), KernelOutputWithBudget(0));
}

TEST_F(PolicyAttentionTest, ABudgetOfTheWholeWindowChangesNothing) {
  for (const int64_t budget : {0, 9, 10, 11, 1000}) {
    EXPECT_EQ(OutputWithBudget(budget), KernelOutputWithBudget(0)) << budget;
  }
}

}  // namespace
}  // namespace lectern
