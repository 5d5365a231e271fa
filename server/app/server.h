// The composition root: everything the process consists of is made, started and stopped here.
#pragma once

#include "server/app/options.h"

namespace lectern {

class ShutdownSignals;

inline constexpr char kVersion[] = "0.1.0";

// Starts (metrics and health first, then models, then a warm-up answer), serves until a signal,
// drains, and returns the process's exit code (options.h).
int RunServer(const Options& options, ShutdownSignals& signals);

}  // namespace lectern
