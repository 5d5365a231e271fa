// The operating system's names of the threads that kernels run on.
#pragma once

#include <vector>

namespace lectern::kernels {

// Ids (as in /proc/self/task) of the threads that run the kernels this thread calls with
// `num_threads` in their context, its own included. They hold until a kernel is called with another
// number of threads above 1.
std::vector<int> TeamThreadIds(int num_threads);

}  // namespace lectern::kernels
