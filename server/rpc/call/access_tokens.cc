#include "server/rpc/call/access_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"
#include "protocol/metadata.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokens = 10'000;

bool IsDigest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string TextAt(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

absl::Status Refused(const char* reason, const char* message) {
  return MakeError(absl::StatusCode::kUnauthenticated, message, {.reason = reason});
}

}  // namespace

absl::StatusOr<AccessTokens::Entries> AccessTokens::Parse(std::string_view text) {
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object() || file.size() != 1 || !file.contains("tokens") ||
      !file["tokens"].is_array()) {
    return absl::InvalidArgumentError(R"(must be {"tokens": [...]} and nothing else)");
  }
  const json& list = file["tokens"];
  if (list.empty() || list.size() > kMaxTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens: has ", list.size(), " entries, must have 1 to ", kMaxTokens));
  }
  Entries entries;
  std::set<std::string> digests;
  for (const json& item : list) {
    const std::string where = absl::StrCat("tokens[", entries.size(), "]");
    if (!item.is_object() || item.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, R"(: must be {"tenant": NAME, "sha256": DIGEST})"));
    }
    Entry entry{.tenant = TextAt(item, "tenant"), .sha256 = TextAt(item, "sha256")};
    if (!IsName(entry.tenant, kMaxTenantBytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ".tenant: must be [A-Za-z0-9._-]{1,", kMaxTenantBytes, "}"));
    }
    if (!IsDigest(entry.sha256)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ".sha256: must be 64 lower-case hexadecimal digits"));
    }
    if (!digests.insert(entry.sha256).second) {
      return absl::InvalidArgumentError(absl::StrCat(where, ".sha256: is there twice"));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status AccessTokens::Load(std::string_view text) {
  LECTERN_ASSIGN_OR_RETURN(Entries entries, Parse(text));
  absl::MutexLock lock(&mutex_);
  entries_ = std::make_shared<const Entries>(std::move(entries));
  return absl::OkStatus();
}

absl::StatusOr<std::string> AccessTokens::TenantOf(std::string_view authorization) const {
  const absl::string_view scheme(authorization.data(),
                                 std::min(authorization.size(), kBearerPrefix.size()));
  if (!absl::EqualsIgnoreCase(scheme, {kBearerPrefix.data(), kBearerPrefix.size()}) ||
      authorization.size() == kBearerPrefix.size()) {
    return Refused("TOKEN_MISSING", "the call needs the metadata 'authorization: Bearer TOKEN'");
  }
  const std::string_view token = authorization.substr(kBearerPrefix.size());
  std::shared_ptr<const Entries> entries;
  {
    absl::MutexLock lock(&mutex_);
    entries = entries_;
  }
  const std::string digest = Sha256Hex(token.substr(0, kMaxTokenBytes + 1));
  // Compares all entries, even after a match, so that the time does not depend on the token.
  const Entry* found = nullptr;
  for (const Entry& entry : *entries) {
    if (SameDigest(entry.sha256, digest)) found = &entry;
  }
  if (found == nullptr || token.size() > kMaxTokenBytes) {
    return Refused("TOKEN_UNKNOWN", "the server does not know this token");
  }
  return found->tenant;
}

}  // namespace lectern
