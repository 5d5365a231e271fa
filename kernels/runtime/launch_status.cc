#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

const char* ToString(LaunchStatus status) {
  switch (status) {
    case LaunchStatus::kOk:
      return "ok";
    case LaunchStatus::kBadShape:
      return "bad shape";
    case LaunchStatus::kBadArgument:
      return "bad argument";
    case LaunchStatus::kUnsupported:
      return "unsupported";
  }
  return "unknown";
}

}  // namespace lectern::kernels
