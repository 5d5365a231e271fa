#include "bench/paper/inputs.h"

#include <stdexcept>
#include <string>

namespace lectern::bench {

void Require(kernels::LaunchStatus status) {
  if (!Ok(status)) throw std::logic_error(std::string("kernel: ") + kernels::ToString(status));
}

}  // namespace lectern::bench
