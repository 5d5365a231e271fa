#include "server/formats/gguf.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/files/mapped_file.h"
#include "base/status_macros.h"
#include "server/formats/byte_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"
#include "server/formats/gguf_metadata.h"
#include "server/formats/tensor_table.h"

namespace lectern {
namespace {

constexpr char kAlignmentKey[] = "general.alignment";
constexpr char kSplitNumberKey[] = "split.no";
constexpr char kSplitCountKey[] = "split.count";
constexpr char kSplitTensorsKey[] = "split.tensors.count";
constexpr uint64_t kDefaultAlignment = 32;

// ggml_type of the specification.
std::optional<TensorType> TypeFromGgml(uint32_t type) {
  switch (type) {
    case 0:
      return TensorType::kF32;
    case 1:
      return TensorType::kF16;
    case 2:
      return TensorType::kQ4_0;
    case 3:
      return TensorType::kQ4_1;
    case 8:
      return TensorType::kQ8_0;
    case 12:
      return TensorType::kQ4_K;
    case 14:
      return TensorType::kQ6_K;
    case 6:
      return TensorType::kQ5_0;
    case 7:
      return TensorType::kQ5_1;
    case 10:
      return TensorType::kQ2_K;
    case 11:
      return TensorType::kQ3_K;
    case 13:
      return TensorType::kQ5_K;
    case 20:
      return TensorType::kIQ4_NL;
    case 23:
      return TensorType::kIQ4_XS;
    case 39:
      return TensorType::kMXFP4;
    case 30:
      return TensorType::kBF16;
    default:
      return std::nullopt;
  }
}

// The names of types that exist but are not supported, only for the error message.
std::string_view UnreadTypeName(uint32_t type) {
  static constexpr std::pair<uint32_t, std::string_view> kNames[] = {
      {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
      {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},    {26, "I32"},     {27, "I64"},
      {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"}};
  for (const auto& [number, name] : kNames) {
    if (number == type) return name;
  }
  return "unknown";
}

// A tensor's entry in the header, before its position in the file is checked.
struct TensorInfo {
  std::string_view name;
  TensorView view = {};
  uint64_t offset = 0;  // from the start of the tensor data
  uint64_t bytes = 0;
};

absl::Status ReadShape(ByteReader& reader, const FilePart& tensor, TensorInfo& info) {
  uint32_t dims;
  if (!reader.Read(&dims)) return InvalidFile(tensor, "the file ends before its dimensions");
  if (dims < 1 || dims > kMaxTensorDims) {
    return InvalidFile(tensor,
                       absl::StrCat(dims, " dimensions; 1 to ", kMaxTensorDims, " are allowed"));
  }
  for (uint32_t i = 0; i < dims; ++i) {
    uint64_t size;
    if (!reader.Read(&size)) return InvalidFile(tensor, "the file ends inside its dimensions");
    if (size == 0 || size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return InvalidFile(tensor, absl::StrCat("dimension ", i, " of size ", size));
    }
    info.view.shape.push_back(static_cast<int64_t>(size));
  }
  // The file lists the innermost dimension first.
  std::reverse(info.view.shape.begin(), info.view.shape.end());
  return absl::OkStatus();
}

// Sets the type and the size in bytes; the shape is already set.
absl::Status ReadType(ByteReader& reader, const FilePart& tensor, TensorInfo& info) {
  uint32_t number;
  if (!reader.Read(&number)) return InvalidFile(tensor, "the file ends before its type");
  const std::optional<TensorType> type = TypeFromGgml(number);
  if (!type) {
    const std::string_view name = UnreadTypeName(number);
    return InvalidFile(
        tensor, absl::StrCat("type ", number, " (", absl::string_view(name.data(), name.size()),
                             ") is not supported; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, "
                             "Q2_K to Q6_K, IQ4_NL, IQ4_XS and MXFP4 are"));
  }
  info.view.type = *type;
  const auto block_values = static_cast<uint64_t>(BlockValues(*type));
  const auto cols = static_cast<uint64_t>(info.view.cols());
  if (cols % block_values != 0) {
    return InvalidFile(
        tensor, absl::StrCat("rows of ", cols, " values are not whole blocks of ", block_values));
  }
  info.bytes = BlockBytes(*type);
  bool fits = CheckedMultiply(info.bytes, cols / block_values, &info.bytes);
  for (size_t i = 0; fits && i + 1 < info.view.shape.size(); ++i) {
    fits = CheckedMultiply(info.bytes, info.view.shape[i], &info.bytes);
  }
  // A block never takes more bytes than fp32, but it may hold more values than bytes: shape
  // products must fit as well.
  uint64_t values = 1;
  for (const int64_t size : info.view.shape) fits = fits && CheckedMultiply(values, size, &values);
  if (!fits) return InvalidFile(tensor, "the product of its dimensions does not fit into 63 bits");
  return absl::OkStatus();
}

absl::StatusOr<TensorInfo> ReadTensorInfo(ByteReader& reader, uint64_t index,
                                          const std::string& path) {
  const std::string number = absl::StrCat("#", index);
  const FilePart unnamed{.file = path, .kind = "tensor", .name = number};
  uint64_t length;
  if (!reader.Read(&length)) return InvalidFile(unnamed, "the file ends before its name");
  if (length == 0 || length > kMaxGgufTensorNameBytes) {
    return InvalidFile(unnamed, absl::StrCat("name of ", length, " bytes; 1 to ",
                                             kMaxGgufTensorNameBytes, " are allowed"));
  }
  TensorInfo info;
  if (!reader.ReadBytes(length, &info.name)) {
    return InvalidFile(unnamed, "the file ends inside its name");
  }
  const FilePart tensor{.file = path, .kind = "tensor", .name = info.name};
  LECTERN_RETURN_IF_ERROR(ReadShape(reader, tensor, info));
  LECTERN_RETURN_IF_ERROR(ReadType(reader, tensor, info));
  if (!reader.Read(&info.offset)) return InvalidFile(tensor, "the file ends before its offset");
  return info;
}

absl::StatusOr<uint64_t> ReadAlignment(const std::map<std::string, GgufValue>& metadata,
                                       const std::string& path) {
  const auto entry = metadata.find(kAlignmentKey);
  if (entry == metadata.end()) return kDefaultAlignment;
  const FilePart key{.file = path, .kind = "key", .name = kAlignmentKey};
  const auto* alignment = std::get_if<uint64_t>(&entry->second.value);
  if (alignment == nullptr) return InvalidFile(key, "is not an unsigned integer");
  if (*alignment < kMinGgufAlignment || *alignment > kMaxGgufAlignment ||
      (*alignment & (*alignment - 1)) != 0) {
    return InvalidFile(key, absl::StrCat(*alignment, " is not a power of two from ",
                                         kMinGgufAlignment, " to ", kMaxGgufAlignment));
  }
  return *alignment;
}

// Assigns each tensor its bytes in `data`, the part of the file after the header.
absl::Status PlaceTensors(std::string_view data, uint64_t alignment, const std::string& path,
                          std::vector<TensorInfo>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  std::string_view previous;
  for (TensorInfo& info : tensors) {
    const FilePart tensor{.file = path, .kind = "tensor", .name = info.name};
    if (info.offset % alignment != 0) {
      return InvalidFile(tensor,
                         absl::StrCat("offset ", info.offset, " is not a multiple of ", alignment));
    }
    if (info.offset > data.size() || info.bytes > data.size() - info.offset) {
      return InvalidFile(tensor, absl::StrCat("its ", info.bytes, " bytes at offset ", info.offset,
                                              " pass the end of the file (", data.size(),
                                              " bytes of tensor data); is the download complete?"));
    }
    if (info.offset < end) {
      return InvalidFile(tensor, absl::StrCat("overlaps tensor '", Printable(previous), "'"));
    }
    info.view.bytes = data.substr(info.offset, info.bytes);
    end = info.offset + info.bytes;
    previous = info.name;
  }
  return absl::OkStatus();
}

struct Header {
  uint64_t tensors;
  uint64_t keys;
};

absl::StatusOr<Header> ReadHeader(ByteReader& reader, const std::string& path) {
  std::string_view magic;
  uint32_t version;
  Header header;
  if (!reader.ReadBytes(4, &magic) || magic != "GGUF") {
    return InvalidFile({.file = path}, "is not a GGUF file");
  }
  if (!reader.Read(&version)) return InvalidFile({.file = path}, "the file ends in its header");
  if (version != 2 && version != 3) {
    return InvalidFile({.file = path},
                       absl::StrCat("GGUF version ", version, " is not supported; 2 and 3 are"));
  }
  if (!reader.Read(&header.tensors) || !reader.Read(&header.keys)) {
    return InvalidFile({.file = path}, "the file ends in its header");
  }
  if (header.tensors > kMaxGgufTensors) {
    return InvalidFile({.file = path},
                       absl::StrCat(header.tensors, " tensors; at most ", kMaxGgufTensors));
  }
  if (header.keys > kMaxGgufKeys) {
    return InvalidFile({.file = path},
                       absl::StrCat(header.keys, " metadata keys; at most ", kMaxGgufKeys));
  }
  return header;
}

using Metadata = std::map<std::string, GgufValue>;

// The place of a file among the parts of a model. A file that is whole is the only part.
struct Split {
  uint64_t number = 0;  // from 0
  uint64_t count = 1;
  uint64_t tensors = 0;  // of all parts; unknown for a whole file
};

absl::StatusOr<uint64_t> SplitKey(const Metadata& metadata, const char* key,
                                  const std::string& path) {
  const FilePart part{.file = path, .kind = "key", .name = key};
  const auto entry = metadata.find(key);
  if (entry == metadata.end()) return InvalidFile(part, "is missing");
  if (const auto* number = std::get_if<uint64_t>(&entry->second.value)) return *number;
  const auto* number = std::get_if<int64_t>(&entry->second.value);
  if (number == nullptr || *number < 0) return InvalidFile(part, "is not an unsigned integer");
  return static_cast<uint64_t>(*number);
}

absl::StatusOr<Split> ReadSplit(const Metadata& metadata, const std::string& path) {
  if (!metadata.contains(kSplitCountKey)) return Split();
  Split split;
  LECTERN_ASSIGN_OR_RETURN(split.count, SplitKey(metadata, kSplitCountKey, path));
  if (split.count <= 1) return Split();  // 0 in a file whose parts were merged
  if (split.count > kMaxGgufFiles) {
    return InvalidFile({.file = path, .kind = "key", .name = kSplitCountKey},
                       absl::StrCat(split.count, " parts; at most ", kMaxGgufFiles));
  }
  LECTERN_ASSIGN_OR_RETURN(split.number, SplitKey(metadata, kSplitNumberKey, path));
  LECTERN_ASSIGN_OR_RETURN(split.tensors, SplitKey(metadata, kSplitTensorsKey, path));
  if (split.number >= split.count) {
    return InvalidFile({.file = path, .kind = "key", .name = kSplitNumberKey},
                       absl::StrCat(split.number, " is not below the ", split.count, " parts"));
  }
  if (split.tensors > kMaxGgufTensors) {
    return InvalidFile({.file = path, .kind = "key", .name = kSplitTensorsKey},
                       absl::StrCat(split.tensors, " tensors; at most ", kMaxGgufTensors));
  }
  return split;
}

// The path of part `number`, from the path of part `named`. INVALID_ARGUMENT if that does not end
// as the names of parts do.
absl::StatusOr<std::string> PathOfPart(absl::string_view path, const Split& named,
                                       uint64_t number) {
  const auto ending = [&](uint64_t part) {
    return absl::StrFormat("-%05d-of-%05d.gguf", part + 1, named.count);
  };
  const std::string own = ending(named.number);
  if (!absl::EndsWith(path, own)) {
    return InvalidFile(
        {.file = {path.data(), path.size()}},
        absl::StrCat("is part ", named.number + 1, " of ", named.count,
                     "; the other parts are found by name, so its name must end in ", own));
  }
  return absl::StrCat(path.substr(0, path.size() - own.size()), ending(number));
}

// Refuses a file that is named by the user but is not the first part.
absl::Status CheckFirstPart(const Split& split, const std::string& path) {
  if (split.number == 0) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const std::string first, PathOfPart(path, split, 0));
  return InvalidFile({.file = path}, absl::StrCat("is part ", split.number + 1, " of ", split.count,
                                                  "; name the first: ", first));
}

// All parts of a model. The metadata is that of the first.
class MappedGguf final : public GgufFile {
 public:
  absl::Status Open(const std::string& path, const MetadataCheck& check);

  const std::string& path() const override { return paths_.front(); }
  const std::vector<std::string>& paths() const override { return paths_; }
  const TensorView* Find(std::string_view name) const override { return tensors_.Find(name); }
  std::vector<std::string_view> Names() const override { return tensors_.Names(); }
  void DontNeed(const TensorView& tensor) const override;

  const std::map<std::string, GgufValue>& metadata() const override { return metadata_; }
  bool Has(const std::string& key) const override { return metadata_.contains(key); }
  absl::StatusOr<int64_t> GetInt(const std::string& key) const override;
  absl::StatusOr<double> GetFloat(const std::string& key) const override;
  absl::StatusOr<std::string> GetString(const std::string& key) const override;

 private:
  // Looks at the metadata of a part before its tensors are read.
  using PartCheck = std::function<absl::Status(const Metadata& metadata, const std::string& path)>;
  absl::Status AddPart(const std::string& path, Metadata& metadata, const PartCheck& check);
  absl::Status AddTensors(ByteReader& reader, uint64_t count, const Metadata& metadata,
                          const MappedFile& file);
  absl::Status AddOtherParts(const Split& first);
  absl::StatusOr<const GgufValue*> Get(const std::string& key) const;
  absl::Status WrongType(const std::string& key, std::string_view wanted) const {
    return InvalidFile({.file = path(), .kind = "key", .name = key},
                       absl::StrCat("is not ", absl::string_view(wanted.data(), wanted.size())));
  }

  std::vector<std::string> paths_;  // of the parts, in order
  std::vector<MappedFile> files_;   // likewise
  Metadata metadata_;
  TensorTable tensors_;
};

void MappedGguf::DontNeed(const TensorView& tensor) const {
  const char* const data = tensor.bytes.data();
  for (const MappedFile& file : files_) {
    const std::string_view bytes = file.bytes();
    if (std::less_equal<>()(bytes.data(), data) &&
        std::less<>()(data, bytes.data() + bytes.size())) {
      file.DontNeed(data - bytes.data(), tensor.bytes.size());
    }
  }
}

absl::Status MappedGguf::AddTensors(ByteReader& reader, uint64_t count, const Metadata& metadata,
                                    const MappedFile& file) {
  const std::string& path = file.path();
  LECTERN_ASSIGN_OR_RETURN(const uint64_t alignment, ReadAlignment(metadata, path));
  std::vector<TensorInfo> tensors;
  for (uint64_t i = 0; i < count; ++i) {
    LECTERN_ASSIGN_OR_RETURN(TensorInfo info, ReadTensorInfo(reader, i, path));
    tensors.push_back(std::move(info));
  }
  const uint64_t data_start = (reader.position() + alignment - 1) / alignment * alignment;
  const std::string_view data =
      data_start < file.bytes().size() ? file.bytes().substr(data_start) : std::string_view();
  LECTERN_RETURN_IF_ERROR(PlaceTensors(data, alignment, path, tensors));
  for (TensorInfo& info : tensors) {
    if (!tensors_.Add(std::string(info.name), std::move(info.view))) {
      return InvalidFile(
          {.file = path, .kind = "tensor", .name = info.name},
          files_.empty() ? "occurs twice in the file" : "is in another part of the model as well");
    }
  }
  return absl::OkStatus();
}

absl::Status MappedGguf::AddPart(const std::string& path, Metadata& metadata,
                                 const PartCheck& check) {
  LECTERN_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  ByteReader reader(file.bytes());
  LECTERN_ASSIGN_OR_RETURN(const Header header, ReadHeader(reader, path));
  LECTERN_ASSIGN_OR_RETURN(metadata, ReadGgufMetadata(reader, header.keys, path));
  LECTERN_RETURN_IF_ERROR(check(metadata, path));
  LECTERN_RETURN_IF_ERROR(AddTensors(reader, header.tensors, metadata, file));
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status MappedGguf::AddOtherParts(const Split& first) {
  for (uint64_t number = 1; number < first.count; ++number) {
    LECTERN_ASSIGN_OR_RETURN(const std::string part, PathOfPart(path(), first, number));
    const auto check = [&](const Metadata& metadata, const std::string& path) -> absl::Status {
      LECTERN_ASSIGN_OR_RETURN(const Split split, ReadSplit(metadata, path));
      if (split.number == number && split.count == first.count && split.tensors == first.tensors) {
        return absl::OkStatus();
      }
      return InvalidFile(
          {.file = path},
          absl::StrCat("is part ", split.number + 1, " of ", split.count, " of a model of ",
                       split.tensors, " tensors, not part ", number + 1, " of ", first.count,
                       " of the one of ", first.tensors, " tensors that begins in ", this->path()));
    };
    Metadata metadata;
    const absl::Status added = AddPart(part, metadata, check);
    if (absl::IsNotFound(added)) {
      return InvalidFile({.file = part}, absl::StrCat("is missing, part ", number + 1, " of ",
                                                      first.count, "; is the download complete?"));
    }
    LECTERN_RETURN_IF_ERROR(added);
    paths_.push_back(part);
  }
  const size_t found = tensors_.Names().size();
  if (found == first.tensors) return absl::OkStatus();
  return InvalidFile(
      {.file = path(), .kind = "key", .name = kSplitTensorsKey},
      absl::StrCat(first.tensors, " tensors, but the ", first.count, " parts hold ", found));
}

absl::Status MappedGguf::Open(const std::string& path, const MetadataCheck& check) {
  paths_ = {path};
  Split first;
  const auto check_first = [&](const Metadata& metadata, const std::string& file) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(first, ReadSplit(metadata, file));
    LECTERN_RETURN_IF_ERROR(CheckFirstPart(first, file));
    return check ? check(*this) : absl::OkStatus();
  };
  LECTERN_RETURN_IF_ERROR(AddPart(path, metadata_, check_first));
  return first.count == 1 ? absl::OkStatus() : AddOtherParts(first);
}

absl::StatusOr<const GgufValue*> MappedGguf::Get(const std::string& key) const {
  const auto entry = metadata_.find(key);
  if (entry == metadata_.end()) {
    return InvalidFile({.file = path(), .kind = "key", .name = key}, "is missing");
  }
  return &entry->second;
}

absl::StatusOr<int64_t> MappedGguf::GetInt(const std::string& key) const {
  LECTERN_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  if (const auto* number = std::get_if<int64_t>(&value->value)) return *number;
  const auto* number = std::get_if<uint64_t>(&value->value);
  if (number == nullptr) return WrongType(key, "an integer");
  if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return WrongType(key, "below 2^63");
  }
  return static_cast<int64_t>(*number);
}

absl::StatusOr<double> MappedGguf::GetFloat(const std::string& key) const {
  LECTERN_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  if (const auto* number = std::get_if<double>(&value->value)) return *number;
  return WrongType(key, "a floating-point number");
}

absl::StatusOr<std::string> MappedGguf::GetString(const std::string& key) const {
  LECTERN_ASSIGN_OR_RETURN(const GgufValue* value, Get(key));
  if (const auto* text = std::get_if<std::string>(&value->value)) return *text;
  return WrongType(key, "a string");
}

}  // namespace

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path,
                                                         const MetadataCheck& check) {
  auto file = std::make_unique<MappedGguf>();
  LECTERN_RETURN_IF_ERROR(file->Open(path, check));
  return file;
}

}  // namespace lectern
