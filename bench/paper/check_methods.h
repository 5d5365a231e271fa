// Checks that all methods compute the same function: compares each with plain loops in double
// precision, on small shapes.
#pragma once

#include <string>
#include <vector>

#include "bench/paper/workload.h"

namespace lectern::bench {

struct Agreement {
  Experiment experiment;
  Method method;
  double largest_error = 0;  // over the rows compared, as a share of the row's tolerance
  int64_t rows = 0;          // compared; in the attention experiment a row is a head of a query
  int64_t ties = 0;          // left out: kept and dropped scores closer than their rounding
  bool ok = false;           // no error above tolerance, at most a tenth left out
};

// Tolerances follow from the sizes: a sum of n fp32 products is off by at most
// 6 sqrt(n) u |a| |b|, u = 2^-24, but for a chance of 3e-8 (Higham and Mary 2019, theorem 2.4,
// lambda = 6). The stack of layers is run with all keys kept, where every method is the same
// function, against kPlain.
std::vector<Agreement> CheckMethods(int threads);

}  // namespace lectern::bench
