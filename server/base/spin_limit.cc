#include "server/base/spin_limit.h"

#include <unistd.h>

#include <cstdlib>

namespace lectern {

void LimitSpinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "3000", 1);
  execv("/proc/self/exe", argv);  // goes on with libgomp's default if this fails
}

}  // namespace lectern
