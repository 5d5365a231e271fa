// Metadata of calls: keys, and the values that client and server accept.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace lectern {

inline constexpr char kTenantKey[] = "x-lectern-tenant";
inline constexpr char kRequestIdKey[] = "x-request-id";
inline constexpr char kDocumentKey[] = "x-lectern-document";  // read by proxies (deploy/routing)
inline constexpr char kAuthorizationKey[] = "authorization";
inline constexpr std::string_view kBearerPrefix = "Bearer ";

inline constexpr size_t kMaxTenantBytes = 64;
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxDocumentIdBytes = 64;
inline constexpr size_t kMaxTokenBytes = 1024;

// True for [A-Za-z0-9._-]{1,limit}.
inline bool IsName(std::string_view text, size_t limit) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= limit && std::all_of(text.begin(), text.end(), allowed);
}

}  // namespace lectern
