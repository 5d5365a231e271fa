// What every kernel returns: done, or which of its preconditions the caller broke.
#pragma once

namespace lectern::kernels {

enum class [[nodiscard]] LaunchStatus{
    kOk = 0,
    kBadShape,       // a size is negative, zero where it must not be, or two sizes disagree
    kBadArgument,    // a required pointer is null, a number is out of its range
    kUnsupported,    // a combination that this build or this device does not offer
    kDeviceFailure,  // the device reported an error (GPU only)
};

constexpr bool Ok(LaunchStatus status) { return status == LaunchStatus::kOk; }
const char* ToString(LaunchStatus status);

}  // namespace lectern::kernels
