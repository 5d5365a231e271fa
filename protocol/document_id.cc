#include "protocol/document_id.h"

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"

namespace lectern {

std::string DocumentIdOf(std::string_view model_fingerprint, std::string_view text_sha256) {
  const std::string named =
      absl::StrCat(std::string(model_fingerprint), "\n", std::string(text_sha256));
  return "doc-" + Sha256Hex(named).substr(0, 32);
}

}  // namespace lectern
