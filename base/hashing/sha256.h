// SHA-256, incremental (OpenSSL's EVP underneath).
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace lectern {

// Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::string_view bytes);
  // 64 lower-case hexadecimal digits. The object cannot be used afterwards.
  std::string HexDigest();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Hex(std::string_view bytes);

// Whether two digests are equal, in a time that does not depend on where they differ.
bool SameDigest(std::string_view a, std::string_view b);

}  // namespace lectern
