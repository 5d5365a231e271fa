#include "server/formats/gguf_metadata.h"

#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"

namespace lectern {
namespace {

// gguf_metadata_value_type of the specification.
enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// Reads the value of one key.
class ValueReader {
 public:
  ValueReader(ByteReader& reader, FilePart key) : reader_(reader), key_(key) {}

  absl::StatusOr<GgufValue> Read() {
    ValueType type;
    if (!reader_.Read(&type)) return Truncated();
    switch (type) {
      case ValueType::kUint8:
        return Scalar<uint8_t>();
      case ValueType::kInt8:
        return Scalar<int8_t>();
      case ValueType::kUint16:
        return Scalar<uint16_t>();
      case ValueType::kInt16:
        return Scalar<int16_t>();
      case ValueType::kUint32:
        return Scalar<uint32_t>();
      case ValueType::kInt32:
        return Scalar<int32_t>();
      case ValueType::kUint64:
        return Scalar<uint64_t>();
      case ValueType::kInt64:
        return Scalar<int64_t>();
      case ValueType::kFloat32:
        return Scalar<float>();
      case ValueType::kFloat64:
        return Scalar<double>();
      case ValueType::kBool: {
        LECTERN_ASSIGN_OR_RETURN(const bool value, Bool());
        return GgufValue{value};
      }
      case ValueType::kString: {
        LECTERN_ASSIGN_OR_RETURN(std::string value, String());
        return GgufValue{std::move(value)};
      }
      case ValueType::kArray:
        return Array();
    }
    return Invalid(absl::StrCat("value type ", static_cast<uint32_t>(type), " does not exist"));
  }

 private:
  absl::Status Invalid(std::string_view why) const { return InvalidFile(key_, why); }
  absl::Status Truncated() const { return Invalid("the file ends inside its value"); }

  template <typename T>
  absl::StatusOr<GgufValue> Scalar() {
    T value;
    if (!reader_.Read(&value)) return Truncated();
    if constexpr (std::is_floating_point_v<T>) {
      return GgufValue{static_cast<double>(value)};
    } else if constexpr (std::is_signed_v<T>) {
      return GgufValue{static_cast<int64_t>(value)};
    } else {
      return GgufValue{static_cast<uint64_t>(value)};
    }
  }

  absl::StatusOr<bool> Bool() {
    uint8_t value;
    if (!reader_.Read(&value)) return Truncated();
    if (value > 1) return Invalid(absl::StrCat("boolean of value ", value));
    return value == 1;
  }

  absl::StatusOr<std::string> String() {
    uint64_t length;
    if (!reader_.Read(&length)) return Truncated();
    if (length > kMaxGgufStringBytes) {
      return Invalid(absl::StrCat("string of ", length, " bytes; at most ", kMaxGgufStringBytes));
    }
    std::string_view bytes;
    if (!reader_.ReadBytes(length, &bytes)) return Truncated();
    return std::string(bytes);
  }

  absl::StatusOr<GgufValue> Array() {
    ValueType type;
    uint64_t count;
    if (!reader_.Read(&type) || !reader_.Read(&count)) return Truncated();
    if (count > kMaxGgufArrayElements) {
      return Invalid(
          absl::StrCat("array of ", count, " elements; at most ", kMaxGgufArrayElements));
    }
    switch (type) {
      case ValueType::kUint8:
        return Integers<uint8_t>(count);
      case ValueType::kInt8:
        return Integers<int8_t>(count);
      case ValueType::kUint16:
        return Integers<uint16_t>(count);
      case ValueType::kInt16:
        return Integers<int16_t>(count);
      case ValueType::kUint32:
        return Integers<uint32_t>(count);
      case ValueType::kInt32:
        return Integers<int32_t>(count);
      case ValueType::kUint64:
        return Integers<uint64_t>(count);
      case ValueType::kInt64:
        return Integers<int64_t>(count);
      case ValueType::kFloat32:
        return Floats<float>(count);
      case ValueType::kFloat64:
        return Floats<double>(count);
      case ValueType::kBool:
        return Elements<bool>(count, 1, [this] { return Bool(); });
      case ValueType::kString:
        return Elements<std::string>(count, sizeof(uint64_t), [this] { return String(); });
      case ValueType::kArray:
        return Invalid("arrays of arrays are not supported");
    }
    return Invalid(
        absl::StrCat("array element type ", static_cast<uint32_t>(type), " does not exist"));
  }

  template <typename T>
  absl::StatusOr<GgufValue> Integers(uint64_t count) {
    return Elements<int64_t>(count, sizeof(T), [this]() -> absl::StatusOr<int64_t> {
      T value;
      if (!reader_.Read(&value)) return Truncated();
      if (std::is_same_v<T, uint64_t> &&
          static_cast<uint64_t>(value) > std::numeric_limits<int64_t>::max()) {
        return Invalid("array element above 2^63 - 1");
      }
      return static_cast<int64_t>(value);
    });
  }

  template <typename T>
  absl::StatusOr<GgufValue> Floats(uint64_t count) {
    return Elements<double>(count, sizeof(T), [this]() -> absl::StatusOr<double> {
      T value;
      if (!reader_.Read(&value)) return Truncated();
      return static_cast<double>(value);
    });
  }

  // `min_bytes` is the least size of one element in the file, so that memory is reserved only for
  // elements that can exist.
  template <typename Element, typename ReadOne>
  absl::StatusOr<GgufValue> Elements(uint64_t count, uint64_t min_bytes, ReadOne read_one) {
    if (count > reader_.left() / min_bytes) {
      return Invalid(absl::StrCat("array of ", count, " elements, but only ", reader_.left(),
                                  " bytes are left in the file"));
    }
    std::vector<Element> elements;
    elements.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      LECTERN_ASSIGN_OR_RETURN(Element element, read_one());
      elements.push_back(std::move(element));
    }
    return GgufValue{std::move(elements)};
  }

  ByteReader& reader_;
  FilePart key_;
};

}  // namespace

absl::StatusOr<std::map<std::string, GgufValue>> ReadGgufMetadata(ByteReader& reader,
                                                                  uint64_t count,
                                                                  const std::string& path) {
  std::map<std::string, GgufValue> metadata;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string index = absl::StrCat("#", i);
    const FilePart unnamed{.file = path, .kind = "key", .name = index};
    uint64_t length;
    std::string_view name;
    if (!reader.Read(&length)) return InvalidFile(unnamed, "the file ends before its name");
    if (length == 0 || length > kMaxGgufKeyBytes) {
      return InvalidFile(unnamed, absl::StrCat("name of ", length, " bytes; 1 to ",
                                               kMaxGgufKeyBytes, " are allowed"));
    }
    if (!reader.ReadBytes(length, &name)) {
      return InvalidFile(unnamed, "the file ends inside its name");
    }
    const FilePart key{.file = path, .kind = "key", .name = name};
    LECTERN_ASSIGN_OR_RETURN(GgufValue value, ValueReader(reader, key).Read());
    if (!metadata.emplace(name, std::move(value)).second) {
      return InvalidFile(key, "occurs twice in the file");
    }
  }
  return metadata;
}

}  // namespace lectern
