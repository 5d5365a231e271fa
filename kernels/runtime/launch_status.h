// The result of a kernel: done, or which of its preconditions the caller broke.
#pragma once

namespace lectern::kernels {

enum class [[nodiscard]] LaunchStatus{
    kOk = 0,
    kBadShape,     // a size is negative, zero where it must not be, or two sizes disagree
    kBadArgument,  // a required pointer is null, a number is out of its range
    kUnsupported,  // a combination that this build or this CPU does not offer
};

constexpr bool Ok(LaunchStatus status) { return status == LaunchStatus::kOk; }
const char* ToString(LaunchStatus status);

}  // namespace lectern::kernels
