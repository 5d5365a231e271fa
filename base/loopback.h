// Addresses that no other machine can reach.
#pragma once

#include <string_view>

namespace lectern {

// Whether `address`, HOST:PORT, is on the loopback interface.
inline bool IsLoopback(std::string_view address) {
  const std::string_view host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" ||
         (host.substr(0, 4) == "127." &&
          host.find_first_not_of("0123456789.") == std::string_view::npos);
}

}  // namespace lectern
