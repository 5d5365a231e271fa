// DecoderSettings of a GGUF file.
#pragma once

#include <set>
#include <string>
#include <utility>

#include "server/formats/gguf.h"
#include "server/model/decoder/families/decoder_settings.h"

namespace lectern {

// Keys are those of `architecture`, general.architecture of the file.
class GgufSettings : public DecoderSettings {
 public:
  GgufSettings(const GgufFile& file, std::string architecture, int64_t context_limit)
      : file_(file), prefix_(std::move(architecture) + "."), context_limit_(context_limit) {}

  bool is_gguf() const override { return true; }
  int64_t context_limit() const override { return context_limit_; }
  bool Has(const SettingKey& key) const override;
  bool IsNull(const SettingKey&) const override { return false; }
  // An array of equal numbers (one for each layer) is read as that number; UNIMPLEMENTED if they
  // differ.
  absl::StatusOr<int64_t> Int(const SettingKey& key, std::optional<int64_t> absent) const override;
  absl::StatusOr<double> Number(const SettingKey& key, std::optional<double> absent) const override;
  absl::StatusOr<bool> Bool(const SettingKey& key, bool absent) const override;
  absl::StatusOr<std::string> Text(const SettingKey& key) const override;
  absl::StatusOr<std::vector<int64_t>> Flags(const SettingKey& key) const override;
  absl::StatusOr<std::vector<std::string>> Texts(const SettingKey&) const override {
    return std::vector<std::string>();
  }
  // The table's shape, or vocab_size, or the number of tokens.
  absl::StatusOr<int64_t> Vocabulary(std::optional<int64_t> absent) const override;
  absl::StatusOr<RopeSettings> Rope(const RopeKeys& keys, int64_t head_dim,
                                    int64_t context_length) const override;
  bool HasTensor(const std::string& name) const override { return file_.Find(name) != nullptr; }
  absl::Status RefuseUnread() const override;
  absl::Status Invalid(const SettingKey& key, std::string_view why) const override;
  absl::Status Unsupported(const SettingKey& key, std::string_view why) const override;

 private:
  // The full key, noted as asked for.
  std::string Name(const SettingKey& key) const;
  absl::StatusOr<RopeScaling> Scaling(int64_t context_length) const;
  // Reads [n] values, empty if there is no such tensor.
  absl::StatusOr<std::vector<double>> Values(const std::string& tensor) const;

  const GgufFile& file_;
  const std::string prefix_;
  const int64_t context_limit_;
  mutable std::set<std::string> asked_;
};

}  // namespace lectern
