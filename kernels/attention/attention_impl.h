// The attention kernels themselves, compiled once for each instruction set: included by
// attention_portable.cc, attention_avx2.cc and attention_avx512.cc, whose compiler flags choose it.
#pragma once

#include "kernels/attention/attention_dense.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_topk.h"

namespace lectern::kernels::internal {
namespace {

constexpr AttentionOps kOps = {Prepare, TopKScan, TopKFinish, DenseScan, DenseFold, DenseKeyMass};

}  // namespace
}  // namespace lectern::kernels::internal
