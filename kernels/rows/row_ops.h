// Chooses the instruction set and the threads for the row kernels. Internal to kernels/.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/rows/row_ops_table.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::kernels {

// The operations for an instruction set that CheckContext has accepted.
const RowOps& RowOpsOf(Isa isa);

LaunchStatus CheckContext(const ExecutionContext& context);

// Calls body(range) on ranges of [0, rows), on more than one thread only when each gets enough
// floats to pay for waking it.
template <typename Body>
void ForRows(int64_t rows, int64_t cols, const ExecutionContext& context, Body body) {
  constexpr int64_t kFloatsPerThread = 16384;
  const int64_t useful = std::min<int64_t>(rows, rows * cols / kFloatsPerThread);
  const int team = static_cast<int>(std::clamp<int64_t>(useful, 1, context.num_threads));
  ForItems(team, {.count = rows}, [&](ItemRange range, int) { body(range); });
}

}  // namespace lectern::kernels
