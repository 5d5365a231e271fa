// DecoderSettings of a Hugging Face config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "server/formats/config_reader.h"
#include "server/model/decoder/families/decoder_settings.h"

namespace lectern {

class FolderSettings : public DecoderSettings {
 public:
  FolderSettings(const nlohmann::json& object, std::string_view source, int64_t context_limit)
      : object_(object), reader_(object, source), context_limit_(context_limit) {}

  bool is_gguf() const override { return false; }
  int64_t context_limit() const override { return context_limit_; }
  bool Has(const SettingKey& key) const override;
  bool IsNull(const SettingKey& key) const override;
  absl::StatusOr<int64_t> Int(const SettingKey& key, std::optional<int64_t> absent) const override;
  absl::StatusOr<double> Number(const SettingKey& key, std::optional<double> absent) const override;
  absl::StatusOr<bool> Bool(const SettingKey& key, bool absent) const override;
  absl::StatusOr<std::string> Text(const SettingKey& key) const override;
  absl::StatusOr<std::vector<int64_t>> Flags(const SettingKey& key) const override;
  absl::StatusOr<std::vector<std::string>> Texts(const SettingKey& key) const override;
  absl::StatusOr<int64_t> Vocabulary(std::optional<int64_t> absent) const override;
  // Both spellings: rope_theta with rope_scaling, and rope_parameters.
  absl::StatusOr<RopeSettings> Rope(const RopeKeys& keys, int64_t head_dim,
                                    int64_t context_length) const override;
  bool HasTensor(const std::string&) const override { return false; }
  absl::Status RefuseUnread() const override;
  absl::Status Invalid(const SettingKey& key, std::string_view why) const override;
  absl::Status Unsupported(const SettingKey& key, std::string_view why) const override;

 private:
  const std::string& Name(const SettingKey& key) const;  // noted as asked for
  absl::StatusOr<int64_t> RotatedChannels(const RopeKeys& keys, double partial,
                                          int64_t head_dim) const;

  const nlohmann::json& object_;
  const ConfigReader reader_;
  const int64_t context_limit_;
  mutable std::set<std::string> asked_;
};

}  // namespace lectern
