// The families of decoders: what each sets in DecoderConfig, and the one table of all.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/families/decoder_settings.h"

namespace lectern {

// A family, or the members of a close group that one function describes.
struct DecoderFamily {
  std::string_view name;          // model_type in config.json, and ModelInfo::family
  std::string_view class_name;    // in "architectures" of config.json
  std::string_view architecture;  // general.architecture of GGUF files; empty: another family's
  // Fills in everything but name, context limit, tokens and chat template. Errors are those of
  // DecoderSettings.
  absl::Status (*describe)(const DecoderSettings& settings, DecoderConfig& config);
  bool in_text_config = false;  // config.json has the settings in an object "text_config"
};

// Null for a name that no family has.
const DecoderFamily* FindFamilyByModelType(std::string_view model_type);
const DecoderFamily* FindFamilyByArchitecture(std::string_view architecture);

// The names that these functions know, sorted, for messages.
std::vector<std::string> DecoderModelTypes();
std::vector<std::string> DecoderArchitectures();

// One function for each family, in one file for each group.
absl::Status DescribeLlama(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeMistral(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeMinistral(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeQwen2(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeQwen3(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeGemma2(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeGemma3(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeGemma3Nested(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribePhi3(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeSmolLm3(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeGranite(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeOlmo2(const DecoderSettings& settings, DecoderConfig& config);
absl::Status DescribeOlmo3(const DecoderSettings& settings, DecoderConfig& config);

}  // namespace lectern
