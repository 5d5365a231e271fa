// Looks up a model's tensors by name and shape, and finds those that were left unused.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/formats/tensor_source.h"

namespace lectern {

// Refers to the source, which must outlive it and the tensors found.
class TensorFinder {
 public:
  explicit TensorFinder(const TensorSource& source) : source_(source) {}

  // INVALID_ARGUMENT, naming file and tensor, if it is missing or has another shape.
  absl::Status Find(const std::string& name, const std::vector<int64_t>& shape,
                    const TensorView** tensor);

  // UNIMPLEMENTED for a tensor that was never looked up: leaving it out would give wrong answers
  // silently. `spare` names tensors that may be unused, "*.x" every name that
  // ends in ".x" and "x.*" every name that starts with "x."; `family` is named in the error.
  absl::Status RefuseUnused(std::string_view family,
                            const std::vector<std::string_view>& spare) const;

 private:
  const TensorSource& source_;
  std::set<std::string_view> used_;
};

}  // namespace lectern
