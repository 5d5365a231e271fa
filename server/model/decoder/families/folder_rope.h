// The settings of RoPE in config.json, in all the spellings that model folders have.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/formats/config_reader.h"
#include "server/model/decoder/families/decoder_settings.h"

namespace lectern {

// The RoPE of one kind of layer, as config.json describes it.
struct FolderRope {
  std::optional<double> theta;
  std::optional<double> partial;  // rotated share of a head's channels
  RopeScaling scaling;
};

// Reads rope_scaling and rope_parameters. `context_length` is max_position_embeddings, the original
// context where none is named. Errors are those of DecoderSettings.
absl::StatusOr<FolderRope> ReadFolderRope(const ConfigReader& config, const RopeKeys& keys,
                                          int64_t context_length);

}  // namespace lectern
