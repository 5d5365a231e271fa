// The composition root: creates, starts and stops everything that the process consists of.
#pragma once

#include "server/app/options.h"

namespace lectern {

class ShutdownSignals;

// Listens (metrics and health first), loads the models, starts the engine, warms up, serves until a
// signal, drains, and returns the exit code of the process (HelpText() in options.h lists them).
// `options` and `signals` must outlive the call.
int RunServer(const Options& options, ShutdownSignals& signals);

}  // namespace lectern
