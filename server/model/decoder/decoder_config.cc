#include "server/model/decoder/decoder_config.h"

#include <cmath>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/model/decoder/decoder_config_checks.h"

namespace lectern {
namespace {

const DecoderConfigKeys& GgufKeys() {
  static const auto& keys = *new DecoderConfigKeys{
      .hidden = "llama.embedding_length",
      .layers = "llama.block_count",
      .heads = "llama.attention.head_count",
      .kv_heads = "llama.attention.head_count_kv",
      .head_dim = "llama.attention.key_length",
      .intermediate = "llama.feed_forward_length",
      .vocab = "llama.vocab_size",
      .context_length = "llama.context_length",
      .rms_eps = "llama.attention.layer_norm_rms_epsilon",
      .rope_theta = "llama.rope.freq_base",
      .bos = "tokenizer.ggml.bos_token_id",
      .eos = "tokenizer.ggml.eos_token_id",
  };
  return keys;
}

// Reads metadata of one file, with defaults for keys that a file may leave out.
class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  absl::StatusOr<int64_t> Int(const std::string& key, int64_t absent) const {
    return file_.Has(key) ? file_.GetInt(key) : absent;
  }
  absl::StatusOr<double> Float(const std::string& key, double absent) const {
    return file_.Has(key) ? file_.GetFloat(key) : absent;
  }
  absl::StatusOr<std::string> Text(const std::string& key) const {
    return file_.Has(key) ? file_.GetString(key) : std::string();
  }
  absl::StatusOr<int32_t> Token(const std::string& key) const {
    LECTERN_ASSIGN_OR_RETURN(const int64_t id, Int(key, -1));
    if (id < -1 || id >= kMaxDecoderVocab) {
      return InvalidFile(Key(key), absl::StrCat(id, " is no token id"));
    }
    return static_cast<int32_t>(id);
  }

  FilePart Key(const std::string& key) const {
    return {.file = file_.path(), .kind = "key", .name = key};
  }

 private:
  const GgufFile& file_;
};

absl::Status RefuseUnsupported(const GgufFile& file, const DecoderConfig& config) {
  const Reader reader(file);
  LECTERN_ASSIGN_OR_RETURN(const std::string scaling, reader.Text("llama.rope.scaling.type"));
  if (!scaling.empty() && scaling != "none") {
    return UnsupportedFile(
        reader.Key("llama.rope.scaling.type"),
        absl::StrCat("RoPE scaling '", Printable(scaling), "' is not supported"));
  }
  if (file.Has("llama.rope.scale_linear")) {
    return UnsupportedFile(reader.Key("llama.rope.scale_linear"), "RoPE scaling is not supported");
  }
  for (const char* key : {"llama.attention.sliding_window", "llama.expert_count"}) {
    LECTERN_ASSIGN_OR_RETURN(const int64_t value, reader.Int(key, 0));
    if (value != 0)
      return UnsupportedFile(reader.Key(key), absl::StrCat(value, " is not supported"));
  }
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    LECTERN_ASSIGN_OR_RETURN(const int64_t value, reader.Int(key, config.head_dim));
    if (value != config.head_dim) {
      return UnsupportedFile(reader.Key(key),
                             absl::StrCat(value, " differs from the head size, ", config.head_dim));
    }
  }
  return absl::OkStatus();
}

// llama.vocab_size, or the number of tokens.
absl::StatusOr<int64_t> ReadVocab(const GgufFile& file) {
  const auto entry = file.metadata().find("tokenizer.ggml.tokens");
  const auto* tokens = entry == file.metadata().end()
                           ? nullptr
                           : std::get_if<std::vector<std::string>>(&entry->second.value);
  if (tokens == nullptr) return file.GetInt(GgufKeys().vocab);
  const auto count = static_cast<int64_t>(tokens->size());
  LECTERN_ASSIGN_OR_RETURN(const int64_t vocab, Reader(file).Int(GgufKeys().vocab, count));
  if (vocab < count) {
    return InvalidFile({.file = file.path(), .kind = "key", .name = GgufKeys().vocab},
                       absl::StrCat(vocab, " is less than the ", count, " tokens of the file"));
  }
  return vocab;
}

absl::Status CheckRange(std::string_view file, const std::string& key, int64_t value,
                        int64_t most) {
  if (value >= 1 && value <= most) return absl::OkStatus();
  return InvalidFile({.file = file, .kind = "key", .name = key},
                     absl::StrCat(value, " is not from 1 to ", most));
}

}  // namespace

absl::Status CheckDecoderConfig(const DecoderConfig& config, const DecoderConfigKeys& keys,
                                std::string_view file) {
  LECTERN_RETURN_IF_ERROR(CheckRange(file, keys.hidden, config.hidden, kMaxDecoderWidth));
  LECTERN_RETURN_IF_ERROR(CheckRange(file, keys.layers, config.layers, kMaxDecoderLayers));
  LECTERN_RETURN_IF_ERROR(CheckRange(file, keys.heads, config.heads, kMaxDecoderWidth));
  LECTERN_RETURN_IF_ERROR(CheckRange(file, keys.kv_heads, config.kv_heads, config.heads));
  LECTERN_RETURN_IF_ERROR(
      CheckRange(file, keys.head_dim, config.head_dim, kMaxDecoderWidth / config.heads));
  LECTERN_RETURN_IF_ERROR(
      CheckRange(file, keys.intermediate, config.intermediate, kMaxDecoderWidth));
  LECTERN_RETURN_IF_ERROR(CheckRange(file, keys.vocab, config.vocab, kMaxDecoderVocab));
  LECTERN_RETURN_IF_ERROR(
      CheckRange(file, keys.context_length, config.context_length, kMaxDecoderWidth));
  const auto key = [&](const std::string& name) {
    return FilePart{.file = file, .kind = "key", .name = name};
  };
  if (config.heads % config.kv_heads != 0) {
    return InvalidFile(key(keys.kv_heads), absl::StrCat(config.heads, " heads are no multiple of ",
                                                        config.kv_heads, " key-value heads"));
  }
  if (config.head_dim % 2 != 0) {
    return InvalidFile(key(keys.head_dim), absl::StrCat("head size ", config.head_dim, " is odd"));
  }
  if (!(config.rms_eps > 0 && config.rms_eps <= 1)) {
    return InvalidFile(key(keys.rms_eps), absl::StrCat(config.rms_eps, " is not above 0, up to 1"));
  }
  if (!(config.rope_theta > 1 && config.rope_theta <= 1e12)) {
    return InvalidFile(key(keys.rope_theta),
                       absl::StrCat(config.rope_theta, " is not above 1, up to 1e12"));
  }
  for (const auto& [name, id] : {std::pair(&keys.bos, config.bos), {&keys.eos, config.eos}}) {
    if (id < -1 || id >= config.vocab) {
      return InvalidFile(key(*name),
                         absl::StrCat(id, " is outside the vocabulary of ", config.vocab));
    }
  }
  return absl::OkStatus();
}

absl::Status LimitContext(std::string_view file, int64_t context_length, DecoderConfig& config) {
  if (context_length == 0) return absl::OkStatus();
  if (context_length < 1 || context_length > config.context_length) {
    ErrorDetails details;
    details.field_violations = {
        {"context_length", absl::StrCat("must be from 1 to ", config.context_length)}};
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat(std::string(file), ": context length ", context_length,
                                  " is not from 1 to the model's, ", config.context_length),
                     details);
  }
  config.context_length = context_length;
  return absl::OkStatus();
}

void DescribeLlama(DecoderConfig& config) {
  config.family = "llama";
  const auto dim = static_cast<double>(config.head_dim);
  config.layer.assign(config.layers, {.scale = 1.0 / std::sqrt(dim)});
  RopeConfig& rope = config.ropes.emplace_back();
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    rope.inverse_frequencies.push_back(std::pow(config.rope_theta, -static_cast<double>(i) / dim));
  }
  if (config.eos >= 0) config.end_ids = {config.eos};
}

absl::StatusOr<DecoderConfig> ReadDecoderConfig(const GgufFile& file, int64_t context_length) {
  const Reader reader(file);
  const DecoderConfigKeys& keys = GgufKeys();
  LECTERN_ASSIGN_OR_RETURN(const std::string architecture, file.GetString("general.architecture"));
  if (architecture != "llama") {
    return UnsupportedFile(
        reader.Key("general.architecture"),
        absl::StrCat("'", Printable(architecture), "' is not supported; llama is"));
  }
  DecoderConfig config;
  LECTERN_ASSIGN_OR_RETURN(config.name, reader.Text("general.name"));
  LECTERN_ASSIGN_OR_RETURN(config.hidden, file.GetInt(keys.hidden));
  LECTERN_ASSIGN_OR_RETURN(config.layers, file.GetInt(keys.layers));
  LECTERN_ASSIGN_OR_RETURN(config.heads, file.GetInt(keys.heads));
  LECTERN_ASSIGN_OR_RETURN(config.kv_heads, reader.Int(keys.kv_heads, config.heads));
  // hidden / heads unless the file says otherwise; a file without heads is refused below.
  const int64_t usual_head_dim = config.heads > 0 ? config.hidden / config.heads : 0;
  LECTERN_ASSIGN_OR_RETURN(config.head_dim, reader.Int(keys.head_dim, usual_head_dim));
  LECTERN_ASSIGN_OR_RETURN(config.intermediate, file.GetInt(keys.intermediate));
  LECTERN_ASSIGN_OR_RETURN(config.vocab, ReadVocab(file));
  LECTERN_ASSIGN_OR_RETURN(config.context_length, file.GetInt(keys.context_length));
  LECTERN_ASSIGN_OR_RETURN(config.rms_eps, file.GetFloat(keys.rms_eps));
  LECTERN_ASSIGN_OR_RETURN(config.rope_theta, reader.Float(keys.rope_theta, 10'000.0));
  LECTERN_ASSIGN_OR_RETURN(config.bos, reader.Token(keys.bos));
  LECTERN_ASSIGN_OR_RETURN(config.eos, reader.Token(keys.eos));
  LECTERN_ASSIGN_OR_RETURN(config.chat_template, reader.Text("tokenizer.chat_template"));
  config.tied = file.Find("output.weight") == nullptr;
  LECTERN_RETURN_IF_ERROR(CheckDecoderConfig(config, keys, file.path()));
  LECTERN_RETURN_IF_ERROR(RefuseUnsupported(file, config));
  LECTERN_RETURN_IF_ERROR(LimitContext(file.path(), context_length, config));
  DescribeLlama(config);
  return config;
}

}  // namespace lectern
