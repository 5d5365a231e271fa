// The commands of `lectern`.
#pragma once

#include <cstdio>

#include "client/cli/options.h"
#include "lectern/client.h"

namespace lectern {

// Exit statuses, documented in --help.
inline constexpr int kExitOk = 0;
inline constexpr int kExitServerError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNoConnection = 3;
inline constexpr int kExitInterrupted = 130;

// Runs the command of `options`: results go to `out`, errors to `err`, and progress
// too if `err_is_terminal`. Returns the exit status. `canceller` may be called
// from any thread.
int RunCommand(const CliOptions& options, std::FILE* out, std::FILE* err, bool err_is_terminal,
               Canceller& canceller);

}  // namespace lectern
