// spiece.model and tokenizer.model: a sentencepiece.ModelProto. Field numbers are those of
// sentencepiece_model.proto.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/files/wire_reader.h"
#include "server/tokenizer/text/metaspace.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

class Reader {
 public:
  explicit Reader(std::string source) { config_.source = std::move(source); }

  bool is_bpe() const { return is_bpe_; }
  int32_t bos_id() const { return bos_id_; }

  absl::StatusOr<UnigramConfig> Read(std::string_view contents) {
    config_.eos_id = 2;  // the defaults of the format
    WireReader model(contents);
    while (model.Next()) {
      switch (model.field()) {
        case 1:
          if (!model.IsBytes()) return Invalid("pieces", "is not a message");
          LECTERN_RETURN_IF_ERROR(ReadPiece(model.bytes()));
          break;
        case 2:
          if (!model.IsBytes()) return Invalid("trainer_spec", "is not a message");
          LECTERN_RETURN_IF_ERROR(ReadTrainer(model.bytes()));
          break;
        case 3:
          if (!model.IsBytes()) return Invalid("normalizer_spec", "is not a message");
          LECTERN_RETURN_IF_ERROR(ReadNormalizer(model.bytes()));
          break;
        case 5:
          if (!model.IsBytes()) return Invalid("denormalizer_spec", "is not a message");
          LECTERN_RETURN_IF_ERROR(CheckDenormalizer(model.bytes()));
          break;
        default:
          break;  // self-test data, extensions
      }
    }
    if (!model.ok()) {
      return InvalidFile({.file = config_.source}, "breaks off or is not a SentencePiece model");
    }
    if (config_.pieces.empty()) return Invalid("pieces", "there are none");
    // The unknown token is identified by its type; if trainer_spec names another, the type decides,
    // as it does in SentencePiece.
    config_.unk_id = -1;
    for (size_t id = 0; id < config_.pieces.size(); ++id) {
      if (config_.pieces[id].type == PieceType::kUnknown) config_.unk_id = static_cast<int32_t>(id);
    }
    return std::move(config_);
  }

 private:
  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return InvalidFile({config_.source, "key", key}, why);
  }
  absl::Status Unsupported(std::string_view key, std::string_view found) const {
    return UnsupportedFile({config_.source, "key", key},
                           absl::StrCat("'", std::string(found), "' is not supported"));
  }

  absl::Status ReadPiece(std::string_view bytes) {
    const std::string key = absl::StrCat("pieces[", config_.pieces.size(), "]");
    if (config_.pieces.size() >= kMaxPieces) {
      return Invalid("pieces", absl::StrCat("more than ", kMaxPieces));
    }
    UnigramPiece piece;
    WireReader reader(bytes);
    while (reader.Next()) {
      if (reader.field() == 1 && reader.IsBytes()) {
        piece.text = reader.bytes();
      } else if (reader.field() == 2 && reader.IsFloat()) {
        piece.score = reader.real();
      } else if (reader.field() == 3 && reader.IsNumber()) {
        if (reader.number() < 1 || reader.number() > 6) {
          return Invalid(key, absl::StrCat("type ", reader.number(), " is not known"));
        }
        static constexpr PieceType kTypes[] = {PieceType::kNormal,  PieceType::kUnknown,
                                               PieceType::kControl, PieceType::kUserDefined,
                                               PieceType::kUnused,  PieceType::kByte};
        piece.type = kTypes[reader.number() - 1];
      } else if (reader.field() <= 3) {
        return Invalid(key, "a field has the wrong type");
      }
    }
    if (!reader.ok()) return Invalid(key, "breaks off or is malformed");
    if (piece.text.empty()) return Invalid(key, "is empty");
    if (piece.text.size() > kMaxPieceBytes) {
      return Invalid(key, absl::StrCat("is longer than ", kMaxPieceBytes, " bytes"));
    }
    config_.pieces.push_back(std::move(piece));
    return absl::OkStatus();
  }

  // An id as int32; a negative one means none.
  static std::optional<int32_t> Id(const WireReader& reader) {
    if (!reader.IsNumber()) return std::nullopt;
    const int64_t id = static_cast<int64_t>(reader.number());
    if (id < -1 || id >= static_cast<int64_t>(kMaxPieces)) return std::nullopt;
    return static_cast<int32_t>(id);
  }

  absl::Status ReadTrainer(std::string_view bytes) {
    WireReader reader(bytes);
    while (reader.Next()) {
      switch (reader.field()) {
        case 3:
          if (!reader.IsNumber()) return Invalid("trainer_spec.model_type", "is not a number");
          is_bpe_ = reader.number() == 2;
          if (reader.number() != 1 && !is_bpe_) {
            return Unsupported("trainer_spec.model_type", ModelType(reader.number()));
          }
          break;
        case 24:
          if (reader.IsNumber() && reader.number() != 0) {
            return Unsupported("trainer_spec.treat_whitespace_as_suffix", "true");
          }
          break;
        case 35:
          config_.byte_fallback = reader.IsNumber() && reader.number() != 0;
          break;
        case 41:
        case 42:
        case 43: {
          static constexpr const char* kNames[] = {"bos_id", "eos_id", "pad_id"};
          const std::optional<int32_t> id = Id(reader);
          if (!id) {
            return Invalid(absl::StrCat("trainer_spec.", kNames[reader.field() - 41]),
                           "is not a token id");
          }
          if (reader.field() == 41) bos_id_ = *id;
          if (reader.field() == 42) config_.eos_id = *id;
          if (reader.field() == 43) config_.pad_id = *id;
          break;
        }
        case 44:
          if (!reader.IsBytes() || reader.bytes().size() > kMaxPieceBytes) {
            return Invalid("trainer_spec.unk_surface",
                           absl::StrCat("is not a text of at most ", kMaxPieceBytes, " bytes"));
          }
          config_.unk_surface = reader.bytes();
          break;
        default:
          break;
      }
    }
    return reader.ok() ? absl::OkStatus() : Invalid("trainer_spec", "breaks off or is malformed");
  }

  static std::string ModelType(uint64_t type) {
    static constexpr const char* kNames[] = {"UNIGRAM", "BPE", "WORD", "CHAR"};
    return type >= 1 && type <= 4 ? kNames[type - 1] : absl::StrCat("type ", type);
  }

  absl::Status ReadNormalizer(std::string_view bytes) {
    WireReader reader(bytes);
    while (reader.Next()) {
      switch (reader.field()) {
        case 2:
          if (!reader.IsBytes() || reader.bytes().size() > kMaxCharsmapBytes) {
            return Invalid("normalizer_spec.precompiled_charsmap",
                           absl::StrCat("is longer than ", kMaxCharsmapBytes, " bytes"));
          }
          config_.charsmap = reader.bytes();
          break;
        case 3:
          config_.add_dummy_prefix = reader.IsNumber() && reader.number() != 0;
          break;
        case 4:
          config_.remove_extra_whitespaces = reader.IsNumber() && reader.number() != 0;
          break;
        case 5:
          config_.escape_whitespaces = reader.IsNumber() && reader.number() != 0;
          break;
        default:
          break;
      }
    }
    return reader.ok() ? absl::OkStatus()
                       : Invalid("normalizer_spec", "breaks off or is malformed");
  }

  absl::Status CheckDenormalizer(std::string_view bytes) const {
    WireReader reader(bytes);
    while (reader.Next()) {
      if (reader.field() == 2 && reader.IsBytes() && !reader.bytes().empty()) {
        return UnsupportedFile({config_.source, "key", "denormalizer_spec"},
                               "a character map is not supported");
      }
    }
    return reader.ok() ? absl::OkStatus()
                       : Invalid("denormalizer_spec", "breaks off or is malformed");
  }

  UnigramConfig config_;
  bool is_bpe_ = false;
  int32_t bos_id_ = 1;  // the default of the format
};

// A model of type BPE: the same pieces, merged by score.
absl::StatusOr<BpeConfig> ToBpe(const UnigramConfig& model, bool legacy) {
  const auto unsupported = [&](std::string_view key) {
    return UnsupportedFile({model.source, "key", key}, "is not supported in a model of type BPE");
  };
  if (!model.charsmap.empty()) return unsupported("normalizer_spec.precompiled_charsmap");
  if (model.remove_extra_whitespaces)
    return unsupported("normalizer_spec.remove_extra_whitespaces");
  BpeConfig config{.alphabet = BpeConfig::Alphabet::kCharacters};
  config.source = model.source;
  config.byte_fallback = model.byte_fallback;
  config.unk_id = model.unk_id;
  config.fuse_unk = true;
  config.eos_id = model.eos_id;
  config.strip_first_space = model.add_dummy_prefix;
  const std::string blank(kMetaspace);
  const TextStep prefix{legacy ? TextStep::Kind::kPrepend : TextStep::Kind::kPrependToInput, blank};
  const TextStep escape{TextStep::Kind::kReplace, " ", blank};
  if (model.add_dummy_prefix && legacy) config.steps.push_back(prefix);
  if (model.escape_whitespaces) config.steps.push_back(escape);
  if (model.add_dummy_prefix && !legacy) config.steps.push_back(prefix);
  for (size_t at = 0; at < model.pieces.size(); ++at) {
    const UnigramPiece& piece = model.pieces[at];
    const auto id = static_cast<int32_t>(at);
    config.tokens.push_back(piece.text);
    config.scores.push_back(piece.score);
    const bool special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    if (special || piece.type == PieceType::kUserDefined) {
      config.added.push_back({.text = piece.text, .id = id, .special = special});
    }
    if (special || piece.type == PieceType::kByte || piece.type == PieceType::kUnused) {
      config.unmerged.push_back(id);
    }
  }
  for (const AddedToken& token : model.added) {
    if (token.id < 0 || token.id >= static_cast<int64_t>(kMaxPieces)) {
      return InvalidFile({.file = model.source},
                         absl::StrCat("added token ", token.id, " has an id out of range"));
    }
    const auto at = static_cast<size_t>(token.id);
    if (at >= config.tokens.size()) {
      config.tokens.resize(at + 1);
      config.scores.resize(at + 1);
    }
    config.tokens[at] = token.text;
    const auto same = std::find_if(config.added.begin(), config.added.end(),
                                   [&](const AddedToken& one) { return one.id == token.id; });
    if (same != config.added.end()) {
      *same = token;
    } else {
      config.added.push_back(token);
    }
  }
  return config;
}

}  // namespace

absl::StatusOr<UnigramConfig> ParseSpieceModel(std::string_view contents, std::string source) {
  Reader reader(source);
  LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, reader.Read(contents));
  if (!reader.is_bpe()) return config;
  return UnsupportedFile({source, "key", "trainer_spec.model_type"}, "'BPE' is not supported");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> NewTokenizerFromSpiece(std::string_view contents,
                                                                  std::string source,
                                                                  SpieceSettings settings,
                                                                  int32_t eos_id) {
  Reader reader(std::move(source));
  LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, reader.Read(contents));
  config.added = std::move(settings.added);
  if (eos_id >= 0) config.eos_id = eos_id;
  if (!reader.is_bpe()) return NewUnigram(std::move(config));
  LECTERN_ASSIGN_OR_RETURN(BpeConfig bpe, ToBpe(config, settings.legacy));
  bpe.bos_id = reader.bos_id();
  bpe.add_bos = settings.add_bos && bpe.bos_id >= 0;
  return NewBpe(std::move(bpe));
}

}  // namespace lectern
