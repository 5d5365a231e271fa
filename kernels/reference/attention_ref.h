// Attention in plain double precision, one row at a time, for comparison with the fast kernels. For
// tests only.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/attention_args.h"
#include "kernels/attention/topk_attention.h"

namespace lectern::kernels {

struct ReferenceRow {
  std::vector<double> out;  // [value_dim]
  double kept_mass = 0;
  std::vector<int64_t> kept;   // by descending score, ties by ascending index
  std::vector<double> weight;  // of each kept value in `out`
  std::vector<double> score;   // of every key; hidden keys are -inf
  double margin = 0;           // worst kept less best dropped score; inf if nothing was dropped
};

// Computes row `row` and query head `head` of one sequence; k <= 0 is dense. Keys and values are
// read back from the pages, so with int8 pages the result is that of the stored values.
ReferenceRow ReferenceAttention(const AttentionArgs& args, int64_t k, Tail tail, int64_t row,
                                int head);

}  // namespace lectern::kernels
