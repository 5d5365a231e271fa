#include "server/formats/file_error.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/error_details.h"

namespace lectern {
namespace {

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

absl::Status FileError(absl::StatusCode code, const FilePart& part, std::string_view why,
                       std::string_view reason) {
  ErrorDetails details;
  details.reason = std::string(reason);
  details.metadata["file"] = std::string(part.file);
  std::string message = absl::StrCat(Absl(part.file), ": ");
  if (!part.kind.empty()) {
    const std::string name = Printable(part.name);
    details.metadata[std::string(part.kind)] = name;
    absl::StrAppend(&message, Absl(part.kind), " '", name, "': ");
  }
  absl::StrAppend(&message, Absl(why));
  return MakeError(code, message, details);
}

}  // namespace

absl::Status InvalidFile(const FilePart& part, std::string_view why) {
  return FileError(absl::StatusCode::kInvalidArgument, part, why, "MODEL_FILE_INVALID");
}

absl::Status UnsupportedFile(const FilePart& part, std::string_view why) {
  return FileError(absl::StatusCode::kUnimplemented, part, why, "MODEL_UNSUPPORTED");
}

std::string Printable(std::string_view name) {
  constexpr size_t kShown = 100;
  const std::string escaped = absl::CHexEscape(Absl(name.substr(0, kShown)));
  return name.size() > kShown ? absl::StrCat(escaped, "...") : escaped;
}

}  // namespace lectern
