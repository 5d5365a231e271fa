// The attention kernels themselves, once for every instruction set: included by
// attention_portable.cc, attention_avx2.cc and attention_avx512.cc, which set the compiler flags
// and LECTERN_ISA_*.
#pragma once

#include "kernels/attention/attention_dense.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_topk.h"

namespace lectern::kernels::internal {
namespace {

constexpr AttentionOps kOps = {Prepare, TopKScan, TopKFinish, DenseScan, DenseFold, DenseKeyMass};

}  // namespace
}  // namespace lectern::kernels::internal
