// Reads the values of one JSON object of a model folder, with errors that name file and key. A null
// value counts as absent, as it does in the library that writes these files.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern {

// Formats a value for error messages: one line, printable, shortened.
std::string ShowJson(const nlohmann::json& value);

// Refers to the object and the name of the file, which must outlive it.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& object, std::string_view source)
      : object_(object), source_(source) {}

  // Null when absent.
  const nlohmann::json* Find(const std::string& key) const;

  // INVALID_ARGUMENT for another type, and without `absent` also for a missing key.
  absl::StatusOr<int64_t> Int(const std::string& key) const;
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t absent) const;
  // Also checks that the value is in [least, most].
  absl::StatusOr<int64_t> IntIn(const std::string& key, int64_t least, int64_t most) const;
  absl::StatusOr<double> Number(const std::string& key, double absent) const;
  absl::StatusOr<bool> Bool(const std::string& key, bool absent = false) const;
  // Empty when absent.
  absl::StatusOr<std::string> Text(const std::string& key) const;
  // An id in [0, limit), or a list of exactly one; -1 when absent.
  absl::StatusOr<int32_t> Token(const std::string& key, int64_t limit) const;

  // UNIMPLEMENTED unless the text of `key` is `supported`.
  absl::Status CheckText(const std::string& key, std::string_view supported) const;
  // UNIMPLEMENTED unless "architectures" is absent or names `supported` alone.
  absl::Status CheckArchitecture(std::string_view supported) const;

  absl::Status Invalid(std::string_view key, std::string_view why) const;
  absl::Status Unsupported(std::string_view key, std::string_view why) const;

 private:
  const nlohmann::json& object_;
  std::string_view source_;
};

}  // namespace lectern
