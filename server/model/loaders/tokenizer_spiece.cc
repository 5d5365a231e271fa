// spiece.model: SentencePiece's ModelProto in protobuf's wire format, read without its classes.
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/loaders/file_error.h"
#include "server/model/loaders/tokenizer_files.h"

namespace lectern {
namespace {

using Piece = UnigramConfig::Piece;

constexpr size_t kMaxPieces = size_t{1} << 22;

// One field of a message: a number, or bytes.
struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;  // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  uint64_t value = 0;
  std::string_view bytes;
};

// Walks the fields of one message.
class Message {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}

  // False at the end, and after a damaged field.
  bool Next(Field* field) {
    uint64_t key = 0;
    if (bytes_.empty() || damaged_) return false;
    damaged_ = !Varint(&key) || key >> 3 > UINT32_MAX || !Value(key, field);
    return !damaged_;
  }
  bool damaged() const { return damaged_; }

 private:
  bool Varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64 && !bytes_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_[0]);
      bytes_.remove_prefix(1);
      *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool Take(uint64_t size, std::string_view* taken) {
    if (size > bytes_.size()) return false;
    *taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return true;
  }

  bool Value(uint64_t key, Field* field) {
    *field = {.number = static_cast<uint32_t>(key >> 3), .wire = static_cast<uint32_t>(key & 7)};
    switch (field->wire) {
      case 0:
        return Varint(&field->value);
      case 1:
        return Take(8, &field->bytes);
      case 2:
        return Varint(&field->value) && Take(field->value, &field->bytes);
      case 5:
        return Take(4, &field->bytes);
      default:
        return false;
    }
  }

  std::string_view bytes_;
  bool damaged_ = false;
};

class Reader {
 public:
  explicit Reader(std::string source) { config_.source = std::move(source); }

  absl::StatusOr<UnigramConfig> Read(std::string_view bytes) {
    Message model(bytes);
    for (Field field; model.Next(&field);) {
      if (field.number == 1) LECTERN_RETURN_IF_ERROR(ReadPiece(field));
      if (field.number == 2) LECTERN_RETURN_IF_ERROR(ReadTrainer(field));
      if (field.number == 3) LECTERN_RETURN_IF_ERROR(ReadNormalizer(field));
    }
    if (model.damaged()) return Invalid("model", "is damaged or cut off");
    if (config_.unknown_id < 0) config_.unknown_id = FindUnknown();
    const auto count = static_cast<int32_t>(config_.pieces.size());
    if (config_.eos_id >= count) config_.eos_id = -1;
    return std::move(config_);
  }

 private:
  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return InvalidFile({config_.source, "key", key}, why);
  }
  absl::Status Unsupported(std::string_view key, std::string_view why) const {
    return UnsupportedFile({config_.source, "key", key}, why);
  }

  int32_t FindUnknown() const {
    for (size_t id = 0; id < config_.pieces.size(); ++id) {
      if (config_.pieces[id].type == Piece::Type::kUnknown) return static_cast<int32_t>(id);
    }
    return -1;
  }

  absl::Status ReadPiece(const Field& of) {
    if (of.wire != 2) return Invalid("pieces", "is no message");
    if (config_.pieces.size() == kMaxPieces) return Invalid("pieces", "has more than 2^22 entries");
    Piece& piece = config_.pieces.emplace_back();
    Message message(of.bytes);
    for (Field field; message.Next(&field);) {
      if (field.number == 1 && field.wire == 2) piece.text = field.bytes;
      if (field.number == 2 && field.wire == 5) {
        std::memcpy(&piece.score, field.bytes.data(), sizeof(piece.score));
      }
      if (field.number == 3 && field.wire == 0) {
        if (field.value < 1 || field.value > 6) return Invalid("pieces.type", "is not 1 to 6");
        constexpr Piece::Type kTypes[] = {Piece::Type::kNormal,  Piece::Type::kUnknown,
                                          Piece::Type::kControl, Piece::Type::kUserDefined,
                                          Piece::Type::kUnused,  Piece::Type::kByte};
        piece.type = kTypes[field.value - 1];
      }
    }
    return message.damaged() ? Invalid("pieces", "has a damaged entry") : absl::OkStatus();
  }

  absl::Status ReadTrainer(const Field& of) {
    if (of.wire != 2) return Invalid("trainer_spec", "is no message");
    Message message(of.bytes);
    for (Field field; message.Next(&field);) {
      if (field.wire != 0) continue;
      const auto id = static_cast<int64_t>(field.value);
      const bool is_id = field.number >= 40 && field.number <= 43;
      if (is_id && (id < -1 || id >= static_cast<int64_t>(kMaxPieces))) {
        return Invalid("trainer_spec", absl::StrCat("names a piece ", id).c_str());
      }
      if (field.number == 3 && field.value != 1) {
        return Unsupported("trainer_spec.model_type", "is not unigram");
      }
      if (field.number == 24 && field.value != 0) {
        return Unsupported("trainer_spec.treat_whitespace_as_suffix", "is set");
      }
      if (field.number == 35) config_.byte_fallback = field.value != 0;
      if (field.number == 40) config_.unknown_id = static_cast<int32_t>(id);
      if (field.number == 42) config_.eos_id = static_cast<int32_t>(id);
    }
    return message.damaged() ? Invalid("trainer_spec", "is damaged") : absl::OkStatus();
  }

  absl::Status ReadNormalizer(const Field& of) {
    if (of.wire != 2) return Invalid("normalizer_spec", "is no message");
    Message message(of.bytes);
    for (Field field; message.Next(&field);) {
      if (field.number == 2 && field.wire == 2) config_.char_map = field.bytes;
      if (field.number == 3) config_.add_dummy_prefix = field.value != 0;
      if (field.number == 4) config_.remove_extra_whitespaces = field.value != 0;
      if (field.number == 5 && field.value == 0) {
        return Unsupported("normalizer_spec.escape_whitespaces", "is not set");
      }
    }
    return message.damaged() ? Invalid("normalizer_spec", "is damaged") : absl::OkStatus();
  }

  UnigramConfig config_;
};

}  // namespace

absl::StatusOr<UnigramConfig> ParseSpieceModel(std::string_view bytes, std::string source) {
  return Reader(std::move(source)).Read(bytes);
}

}  // namespace lectern
