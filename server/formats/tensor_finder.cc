#include "server/formats/tensor_finder.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/formats/file_error.h"

namespace lectern {
namespace {

std::string Show(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace

absl::Status TensorFinder::Find(const std::string& name, const std::vector<int64_t>& shape,
                                const TensorView** tensor) {
  const FilePart part{.file = source_.path(), .kind = "tensor", .name = name};
  *tensor = source_.Find(name);
  if (*tensor == nullptr) {
    return InvalidFile(part, absl::StrCat("is missing; expected with shape ", Show(shape)));
  }
  if ((*tensor)->shape != shape) {
    return InvalidFile(
        part, absl::StrCat("has shape ", Show((*tensor)->shape), " instead of ", Show(shape)));
  }
  used_.insert((*tensor)->name);
  return absl::OkStatus();
}

absl::Status TensorFinder::RefuseUnused(std::string_view family,
                                        const std::vector<std::string_view>& spare) const {
  for (const std::string_view name : source_.Names()) {
    const bool is_spare = std::any_of(spare.begin(), spare.end(), [&](std::string_view one) {
      if (one.starts_with('*')) return name.ends_with(one.substr(1));
      if (one.ends_with('*')) return name.starts_with(one.substr(0, one.size() - 1));
      return name == one;
    });
    if (used_.contains(name) || is_spare) continue;
    return UnsupportedFile(
        {.file = source_.path(), .kind = "tensor", .name = name},
        absl::StrCat("is not part of a ", std::string(family), " model as the server computes it"));
  }
  return absl::OkStatus();
}

}  // namespace lectern
