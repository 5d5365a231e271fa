#include "kernels/team_threads.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/parallel.h"

namespace lectern::kernels {

std::vector<int> TeamThreadIds(int num_threads) {
  std::vector<int> ids(num_threads, 0);
  RunTeam(num_threads,
          [&](int thread, int) { ids[thread] = static_cast<int>(syscall(SYS_gettid)); });
  std::erase(ids, 0);  // the team may be smaller than asked
  return ids;
}

}  // namespace lectern::kernels
