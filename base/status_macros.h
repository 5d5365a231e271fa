// Early returns for absl::Status and absl::StatusOr. Debian 12's Abseil has no such macros yet; the
// prefix avoids a clash with those of later versions.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define LECTERN_CONCAT_INNER(a, b) a##b
#define LECTERN_CONCAT(a, b) LECTERN_CONCAT_INNER(a, b)

// Evaluates an absl::Status expression and returns it from the function unless it is OK.
#define LECTERN_RETURN_IF_ERROR(expr)                   \
  do {                                                  \
    if (absl::Status status_ = (expr); !status_.ok()) { \
      return status_;                                   \
    }                                                   \
  } while (false)

// LECTERN_ASSIGN_OR_RETURN(auto x, F()): x = *F(), or returns F()'s status.
#define LECTERN_ASSIGN_OR_RETURN(lhs, expr) \
  LECTERN_ASSIGN_OR_RETURN_IMPL(LECTERN_CONCAT(status_or_, __LINE__), lhs, expr)
#define LECTERN_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                  \
  if (!tmp.ok()) return std::move(tmp).status();      \
  lhs = *std::move(tmp)
