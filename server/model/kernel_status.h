// A kernel's LaunchStatus as absl::Status. Arguments are checked before kernels run, so a refusal
// is a bug in server/model: INTERNAL, naming the kernel.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/runtime/launch_status.h"

namespace lectern {

inline absl::Status FromKernel(kernels::LaunchStatus status, const char* kernel) {
  if (kernels::Ok(status)) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(kernel, ": ", kernels::ToString(status)));
}

}  // namespace lectern
