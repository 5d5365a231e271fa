// The settings of a decoder, as families read them: by one interface for config.json and for GGUF
// metadata, so that a family is described once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/model/decoder/families/rope_scaling.h"

namespace lectern {

// Names one setting in both formats: a key of config.json, and a GGUF key without its architecture
// ("attention.scale" is granite.attention.scale). Empty: the format has no such key, so the setting
// is absent there.
struct SettingKey {
  std::string folder = {};
  std::string gguf = {};
};

// RoPE as a file has it, for the layers of one kind.
struct RopeSettings {
  double theta = 0;
  int64_t rotated = 0;  // channels of a head that are rotated
  RopeScaling scaling;
};

// Where the settings of RoPE are.
struct RopeKeys {
  SettingKey theta = {"rope_theta", "rope.freq_base"};
  double theta_absent = 10'000;
  bool scaled = true;      // false: the file's scaling is for the layers of another kind
  std::string layer_type;  // of rope_parameters with one object for each layer type; empty: none
  bool partial = false;    // the family rotates a part of each head if the file says so
  bool yarn_is_longrope = false;  // "yarn" and "su" are older names of longrope (Phi-3)
};

// Refers to its file, which must outlive it. Errors name file and key: INVALID_ARGUMENT for a value
// that is absent, of another type or out of range, UNIMPLEMENTED for one that is not supported.
// A null value counts as absent. Not thread-safe: it records which settings have been asked for.
class DecoderSettings {
 public:
  virtual ~DecoderSettings() = default;

  virtual bool is_gguf() const = 0;
  // ModelLoadOptions::context_length; 0: the model's own.
  virtual int64_t context_limit() const = 0;
  virtual bool Has(const SettingKey& key) const = 0;
  // True for a null in config.json: the setting is named and switched off.
  virtual bool IsNull(const SettingKey& key) const = 0;
  // The value if the key is absent; without one an absent key is an error.
  virtual absl::StatusOr<int64_t> Int(const SettingKey& key,
                                      std::optional<int64_t> absent) const = 0;
  virtual absl::StatusOr<double> Number(const SettingKey& key,
                                        std::optional<double> absent) const = 0;
  virtual absl::StatusOr<bool> Bool(const SettingKey& key, bool absent) const = 0;
  // Empty when absent.
  virtual absl::StatusOr<std::string> Text(const SettingKey& key) const = 0;
  // A list of numbers or booleans, one for each layer; empty when absent or when the value is one
  // number.
  virtual absl::StatusOr<std::vector<int64_t>> Flags(const SettingKey& key) const = 0;
  // A list of strings; empty when absent.
  virtual absl::StatusOr<std::vector<std::string>> Texts(const SettingKey& key) const = 0;
  // Rows of the embedding table.
  virtual absl::StatusOr<int64_t> Vocabulary(std::optional<int64_t> absent) const = 0;
  // Has no fault (RopeScalingFault). `context_length` is the model's before scaling.
  virtual absl::StatusOr<RopeSettings> Rope(const RopeKeys& keys, int64_t head_dim,
                                            int64_t context_length) const = 0;
  // True if the file has a tensor of this name; false for config.json, whose tensors are elsewhere.
  virtual bool HasTensor(const std::string& name) const = 0;

  // UNIMPLEMENTED for a setting that changes what the model computes, is not at its neutral value
  // and was never asked for: ignoring it would give wrong answers silently.
  virtual absl::Status RefuseUnread() const = 0;

  virtual absl::Status Invalid(const SettingKey& key, std::string_view why) const = 0;
  virtual absl::Status Unsupported(const SettingKey& key, std::string_view why) const = 0;
};

}  // namespace lectern
