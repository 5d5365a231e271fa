// A fixture for kernel tests over all instruction sets, which skips, visibly, those that this CPU
// lacks.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/runtime/execution_context.h"

namespace lectern::kernels {

inline std::vector<Isa> AllIsas() { return {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}; }

inline std::string IsaName(const testing::TestParamInfo<Isa>& info) { return ToString(info.param); }

class IsaTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > BestIsa()) GTEST_SKIP() << "this CPU lacks " << ToString(GetParam());
  }

  ExecutionContext Context(int num_threads = 1) const {
    ExecutionContext context;
    context.num_threads = num_threads;
    context.isa = GetParam();
    return context;
  }
};

}  // namespace lectern::kernels
