// What callers may call themselves and their calls.
#pragma once

#include <algorithm>
#include <cctype>
#include <string_view>

namespace lectern {

inline constexpr size_t kMaxTenantBytes = 64;
inline constexpr size_t kMaxRequestIdBytes = 128;

// [A-Za-z0-9._-]{1,limit}
inline bool IsName(std::string_view text, size_t limit) {
  return !text.empty() && text.size() <= limit && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace lectern
