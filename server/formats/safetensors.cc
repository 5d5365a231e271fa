// Format: github.com/huggingface/safetensors#format. Tensors must tile the data section without
// holes, as the reference reader requires; sizes of zero are refused, too.
#include "server/formats/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/files/mapped_file.h"
#include "base/status_macros.h"
#include "server/formats/byte_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"
#include "server/formats/strict_json.h"
#include "server/formats/tensor_table.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr char kMetadataKey[] = "__metadata__";

// A dtype of the format; `type` is empty for unsupported ones.
struct Dtype {
  std::string_view name;
  uint64_t bytes;
  std::optional<TensorType> type = {};
};

constexpr Dtype kDtypes[] = {
    {"F32", 4, TensorType::kF32},
    {"F16", 2, TensorType::kF16},
    {"BF16", 2, TensorType::kBF16},
    {"F64", 8},
    {"F8_E5M2", 1},
    {"F8_E4M3", 1},
    {"BOOL", 1},
    {"I8", 1},
    {"U8", 1},
    {"I16", 2},
    {"U16", 2},
    {"I32", 4},
    {"U32", 4},
    {"I64", 8},
    {"U64", 8},
};

const Dtype* FindDtype(std::string_view name) {
  const auto* dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const Dtype& one) { return one.name == name; });
  return dtype == std::end(kDtypes) ? nullptr : dtype;
}

struct Entry {
  std::string name;
  TensorView view = {};
  bool readable = false;
  absl::string_view dtype = {};
  uint64_t begin = 0;
  uint64_t end = 0;
};

absl::Status ReadShape(const json& shape, const FilePart& tensor, Entry& entry) {
  if (!shape.is_array() || shape.size() > kMaxTensorDims) {
    return InvalidFile(tensor,
                       absl::StrCat("shape is not an array of at most ", kMaxTensorDims, " sizes"));
  }
  for (const json& size : shape) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() == 0 ||
        size.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return InvalidFile(tensor, absl::StrCat("shape holds ", size.dump(-1, ' ', true),
                                              ", which is no positive integer below 2^63"));
    }
    entry.view.shape.push_back(size.get<int64_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadOffsets(const json& offsets, const FilePart& tensor, Entry& entry) {
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    return InvalidFile(tensor, "data_offsets is not a pair of unsigned integers");
  }
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  if (entry.begin > entry.end) return InvalidFile(tensor, "data_offsets end before they begin");
  return absl::OkStatus();
}

absl::StatusOr<Entry> ReadEntry(const std::string& name, const json& value,
                                const std::string& path) {
  const FilePart tensor{.file = path, .kind = "tensor", .name = name};
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    return InvalidFile(tensor, "is not an object of dtype, shape and data_offsets");
  }
  const json& dtype_name = value["dtype"];
  const Dtype* dtype =
      dtype_name.is_string() ? FindDtype(dtype_name.get_ref<const std::string&>()) : nullptr;
  if (dtype == nullptr) {
    return InvalidFile(tensor, absl::StrCat("dtype ", Printable(dtype_name.dump(-1, ' ', true)),
                                            " does not exist"));
  }
  Entry entry{.name = name};
  LECTERN_RETURN_IF_ERROR(ReadShape(value["shape"], tensor, entry));
  LECTERN_RETURN_IF_ERROR(ReadOffsets(value["data_offsets"], tensor, entry));
  uint64_t bytes = dtype->bytes;
  for (const int64_t size : entry.view.shape) {
    if (!CheckedMultiply(bytes, size, &bytes)) {
      return InvalidFile(tensor, "the product of its shape does not fit into 63 bits");
    }
  }
  if (bytes != entry.end - entry.begin) {
    return InvalidFile(tensor, absl::StrCat("data_offsets span ", entry.end - entry.begin,
                                            " bytes, dtype and shape take ", bytes));
  }
  entry.readable = dtype->type.has_value();
  entry.dtype = {dtype->name.data(), dtype->name.size()};
  entry.view.type = dtype->type.value_or(TensorType::kF32);
  return entry;
}

absl::Status CheckMetadata(const json& metadata, const std::string& path) {
  const FilePart key{.file = path, .kind = "key", .name = kMetadataKey};
  if (!metadata.is_object()) return InvalidFile(key, "is not an object");
  for (const json& value : metadata) {
    if (!value.is_string()) return InvalidFile(key, "holds a value that is not a string");
  }
  return absl::OkStatus();
}

// Tensors sorted by position must follow each other without holes or overlaps and fill the section.
absl::Status PlaceEntries(std::string_view data, const std::string& path,
                          std::vector<Entry>& entries) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
  uint64_t end = 0;
  for (Entry& entry : entries) {
    const FilePart tensor{.file = path, .kind = "tensor", .name = entry.name};
    if (entry.begin != end) {
      return InvalidFile(tensor, absl::StrCat(entry.begin < end ? "overlaps the tensor before it"
                                                                : "leaves a hole before it",
                                              ": begins at ", entry.begin, " instead of ", end));
    }
    if (entry.end > data.size()) {
      return InvalidFile(tensor, absl::StrCat("data_offsets end at ", entry.end, " of ",
                                              data.size(), " bytes; is the download complete?"));
    }
    entry.view.bytes = data.substr(entry.begin, entry.end - entry.begin);
    end = entry.end;
  }
  if (end != data.size()) {
    return InvalidFile({.file = path},
                       absl::StrCat(data.size() - end, " bytes after the last tensor"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Entry>> ReadEntries(const MappedFile& file) {
  const FilePart whole{.file = file.path()};
  ByteReader reader(file.bytes());
  uint64_t length;
  std::string_view header;
  if (!reader.Read(&length)) return InvalidFile(whole, "the file ends inside its header length");
  if (length > kMaxSafetensorsHeaderBytes) {
    return InvalidFile(
        whole, absl::StrCat("header of ", length, " bytes; at most ", kMaxSafetensorsHeaderBytes));
  }
  if (!reader.ReadBytes(length, &header)) {
    return InvalidFile(
        whole, absl::StrCat("header of ", length, " bytes, but the file holds ", reader.left()));
  }
  if (header.empty() || header[0] != '{') return InvalidFile(whole, "header does not begin with {");
  LECTERN_ASSIGN_OR_RETURN(const json object, ParseJsonObject(header, file.path()));
  std::vector<Entry> entries;
  for (const auto& [name, value] : object.items()) {
    if (name == kMetadataKey) {
      LECTERN_RETURN_IF_ERROR(CheckMetadata(value, file.path()));
      continue;
    }
    if (entries.size() == kMaxSafetensorsTensors) {
      return InvalidFile(whole, absl::StrCat("more than ", kMaxSafetensorsTensors, " tensors"));
    }
    LECTERN_ASSIGN_OR_RETURN(Entry entry, ReadEntry(name, value, file.path()));
    entries.push_back(std::move(entry));
  }
  LECTERN_RETURN_IF_ERROR(
      PlaceEntries(file.bytes().substr(reader.position()), file.path(), entries));
  return entries;
}

class SafetensorsSource final : public TensorSource {
 public:
  SafetensorsSource(std::string path, bool ignore_other_types)
      : path_(std::move(path)), ignore_other_types_(ignore_other_types) {}

  // Every tensor of the file must satisfy `belongs(name)`, so that an index and its shards agree.
  template <typename Belongs>
  absl::Status AddShard(const std::string& path, Belongs belongs);
  absl::Status AddIndex();

  const std::string& path() const override { return path_; }
  const TensorView* Find(std::string_view name) const override { return tensors_.Find(name); }
  std::vector<std::string_view> Names() const override { return tensors_.Names(); }

  void DontNeed(const TensorView& tensor) const override {
    const char* data = tensor.bytes.data();
    for (const MappedFile& shard : shards_) {
      const std::string_view bytes = shard.bytes();
      if (std::less_equal<>()(bytes.data(), data) &&
          std::less<>()(data, bytes.data() + bytes.size())) {
        shard.DontNeed(data - bytes.data(), tensor.bytes.size());
      }
    }
  }

 private:
  absl::StatusOr<std::map<std::string, std::string>> ReadIndex() const;

  std::string path_;
  bool ignore_other_types_;
  std::vector<MappedFile> shards_;
  TensorTable tensors_;
  size_t found_ = 0;  // tensors seen, including those left out for their type
};

template <typename Belongs>
absl::Status SafetensorsSource::AddShard(const std::string& path, Belongs belongs) {
  LECTERN_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  LECTERN_ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(file));
  for (Entry& entry : entries) {
    const FilePart tensor{.file = path, .kind = "tensor", .name = entry.name};
    if (!belongs(entry.name)) return InvalidFile(tensor, "is not in the index as of this shard");
    ++found_;
    if (!entry.readable) {
      // Buffers of integers are no weights; floats of another width are.
      if (ignore_other_types_ && !absl::StartsWith(entry.dtype, "F")) continue;
      return UnsupportedFile(
          tensor, absl::StrCat("dtype ", entry.dtype, " is not supported; F32, F16 and BF16 are"));
    }
    tensors_.Add(std::move(entry.name), std::move(entry.view));
  }
  shards_.push_back(std::move(file));
  return absl::OkStatus();
}

// The weight map: tensor to shard.
absl::StatusOr<std::map<std::string, std::string>> SafetensorsSource::ReadIndex() const {
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path_));
  if (file.bytes().size() > kMaxSafetensorsHeaderBytes) {
    return InvalidFile({.file = path_},
                       absl::StrCat("index of ", file.bytes().size(), " bytes; at most ",
                                    kMaxSafetensorsHeaderBytes));
  }
  LECTERN_ASSIGN_OR_RETURN(const json index, ParseJsonObject(file.bytes(), path_));
  const FilePart key{.file = path_, .kind = "key", .name = "weight_map"};
  if (!index.contains("weight_map")) return InvalidFile(key, "is missing");
  const json& map = index["weight_map"];
  if (!map.is_object() || map.empty() || map.size() > kMaxSafetensorsTensors) {
    return InvalidFile(
        key, absl::StrCat("is not an object of 1 to ", kMaxSafetensorsTensors, " tensors"));
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : map.items()) {
    const FilePart tensor{.file = path_, .kind = "tensor", .name = name};
    if (!shard.is_string()) return InvalidFile(tensor, "its shard is not a string");
    const auto& shard_name = shard.get_ref<const std::string&>();
    // A plain name in the folder: no separator, nothing hidden, no dot-dot.
    if (!absl::EndsWith(shard_name, ".safetensors") || shard_name[0] == '.' ||
        shard_name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return InvalidFile(tensor, absl::StrCat("shard '", Printable(shard_name),
                                              "' is not a .safetensors file of the folder"));
    }
    shard_of[name] = shard_name;
  }
  return shard_of;
}

absl::Status SafetensorsSource::AddIndex() {
  LECTERN_ASSIGN_OR_RETURN(const auto shard_of, ReadIndex());
  std::map<std::string, size_t> shards;  // name to number of tensors that it must hold
  for (const auto& [name, shard] : shard_of) ++shards[shard];
  if (shards.size() > kMaxSafetensorsShards) {
    return InvalidFile({.file = path_},
                       absl::StrCat(shards.size(), " shards; at most ", kMaxSafetensorsShards));
  }
  const size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path_.substr(0, slash + 1);
  for (const auto& [shard, wanted] : shards) {
    const size_t before = found_;
    LECTERN_RETURN_IF_ERROR(AddShard(folder + shard, [&](const std::string& name) {
      const auto entry = shard_of.find(name);
      return entry != shard_of.end() && entry->second == shard;
    }));
    if (found_ - before != wanted) {
      return InvalidFile({.file = path_, .kind = "shard", .name = shard},
                         absl::StrCat("holds ", found_ - before, " of the ", wanted,
                                      " tensors that the index names"));
    }
  }
  return absl::OkStatus();
}

// Returns the single file or the index of a folder; any other path unchanged.
absl::StatusOr<std::string> ResolveFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  for (const char* name : {kSingleFile, kIndexFile}) {
    const std::string file = path + (absl::EndsWith(path, "/") ? "" : "/") + name;
    if (std::filesystem::exists(file, error)) return file;
  }
  return absl::NotFoundError(
      absl::StrCat(path, ": holds neither ", kSingleFile, " nor ", kIndexFile));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> OpenSafetensors(const std::string& path,
                                                              bool ignore_other_types) {
  LECTERN_ASSIGN_OR_RETURN(const std::string file, ResolveFile(path));
  auto source = std::make_unique<SafetensorsSource>(file, ignore_other_types);
  if (absl::EndsWith(file, ".json")) {
    LECTERN_RETURN_IF_ERROR(source->AddIndex());
  } else {
    LECTERN_RETURN_IF_ERROR(source->AddShard(file, [](const std::string&) { return true; }));
  }
  return source;
}

}  // namespace lectern
