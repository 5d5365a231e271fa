// Checks that a hostile file is refused with a typed status that names the file and the faulty
// part.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <random>
#include <string>

#include "absl/status/status.h"
#include "base/error_details.h"

namespace lectern::test {

inline void ExpectRefused(const absl::Status& status, absl::StatusCode code,
                          const std::string& file, const std::string& named,
                          const std::string& why) {
  EXPECT_EQ(status.code(), code) << status;
  const std::string message(status.message());
  for (const std::string& part : {file, named, why}) {
    EXPECT_NE(message.find(part), std::string::npos) << "no \"" << part << "\" in: " << message;
  }
  EXPECT_LT(message.size(), 1000u);
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason,
            code == absl::StatusCode::kUnimplemented ? "MODEL_UNSUPPORTED" : "MODEL_FILE_INVALID");
  EXPECT_EQ(details.metadata.at("file"), file);
}

// Checks the result of a randomly damaged file: success or a typed refusal, nothing else.
inline bool IsOkOrRefused(const absl::Status& status) {
  return status.ok() || ((status.code() == absl::StatusCode::kInvalidArgument ||
                          status.code() == absl::StatusCode::kUnimplemented) &&
                         !GetErrorDetails(status).reason.empty());
}

inline int64_t PeakMemoryKib() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Checks that the peak has grown by less than `limit_kib` since it was `before`. Not under
// sanitizers, which hold freed memory back.
inline void ExpectLittleMemory(int64_t before, int64_t limit_kib) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(PeakMemoryKib() - before, limit_kib);
#endif
}

// Changes one to four bytes, half of the time single bits.
inline std::string Damage(std::string bytes, std::mt19937& random, size_t header_bytes) {
  const int changes = 1 + random() % 4;
  for (int i = 0; i < changes; ++i) {
    char& byte = bytes[random() % header_bytes];
    byte =
        random() % 2 ? static_cast<char>(byte ^ (1 << random() % 8)) : static_cast<char>(random());
  }
  return bytes;
}

}  // namespace lectern::test
