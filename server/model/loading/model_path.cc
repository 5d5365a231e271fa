#include "server/model/loading/model_path.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

constexpr char kConvert[] =
    "convert it: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) of transformers, "
    "with the class of its task, writes safetensors";

// The first bytes of a file; empty if it cannot be read.
std::string Head(const fs::path& path) {
  std::string head(512, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return head;
}

// Refuses files that a failed download leaves in place of any file.
absl::Status CheckDownloaded(const fs::path& path) {
  std::error_code error;
  const std::string file = path;
  if (!fs::is_regular_file(path, error)) return absl::OkStatus();
  if (fs::file_size(path, error) == 0 && !error) {
    return InvalidFile({.file = file}, "is empty; is the download complete?");
  }
  const std::string head = Head(path);
  if (absl::StartsWith(head, "version https://git-lfs.github.com/spec/")) {
    return InvalidFile({.file = file},
                       "is a Git LFS pointer; the file itself was not downloaded: run 'git lfs "
                       "pull' in the clone, or download the file again");
  }
  const std::string start = absl::AsciiStrToLower(absl::StripLeadingAsciiWhitespace(head));
  if (absl::StartsWith(start, "<!doctype html") || absl::StartsWith(start, "<html")) {
    return InvalidFile(
        {.file = file},
        "is an HTML page, not a model; download the file itself (on a model hub, the "
        "link with 'resolve' in place of 'blob')");
  }
  return absl::OkStatus();
}

// Whether `path` has the form of a name on a model hub: ORGANISATION/NAME.
bool LooksLikeHubName(const std::string& path) {
  return std::count(path.begin(), path.end(), '/') == 1 && path.front() != '/' &&
         path.front() != '.' && path.back() != '/' && !absl::EndsWith(path, ".gguf");
}

absl::Status NothingThere(const std::string& path) {
  if (!LooksLikeHubName(path)) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no such file or folder"));
  }
  return absl::NotFoundError(absl::StrCat(
      path,
      ": there is no such file or folder, and models are not downloaded; if this is a name on "
      "Hugging Face, run 'hf download ",
      path, " --local-dir FOLDER' first"));
}

bool IsPickle(const fs::path& path) {
  const std::string extension = path.extension();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt";
}

absl::Status CheckFile(const std::string& path) {
  LECTERN_RETURN_IF_ERROR(CheckDownloaded(path));
  const fs::path file = path;
  const std::string head = Head(file);
  if (file.extension() == ".safetensors" || file.filename() == "config.json") {
    const std::string folder = fs::absolute(file).parent_path();
    return InvalidFile({.file = path},
                       absl::StrCat("is a file of a model folder; give the folder: ", folder));
  }
  if (file.extension() == ".onnx") {
    return UnsupportedFile({.file = path}, "is an ONNX model; GGUF and safetensors are supported");
  }
  if (IsPickle(file) || absl::StartsWith(head, "PK\x03\x04")) {
    return UnsupportedFile({.file = path},
                           absl::StrCat("is a pickle, which may run any code; ", kConvert));
  }
  constexpr absl::string_view kBigEndian("GGUF\0\0\0", 7);
  if (absl::StartsWith(head, kBigEndian)) {
    return UnsupportedFile({.file = path}, "is a big-endian GGUF file; little-endian is supported");
  }
  return absl::OkStatus();
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

bool Holds(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

std::vector<std::string> WithExtension(const std::vector<std::string>& names,
                                       std::string_view extension) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (absl::EndsWith(name, {extension.data(), extension.size()})) found.push_back(name);
  }
  return found;
}

// A folder of a hub's cache holds the model in snapshots/REVISION.
absl::Status AboveSnapshots(const std::string& path, const fs::path& snapshots) {
  std::vector<std::string> revisions;
  for (const std::string& name : NamesIn(snapshots)) revisions.push_back(snapshots / name);
  return InvalidFile({.file = path},
                     absl::StrCat("is a folder of the Hugging Face cache; give its snapshot: ",
                                  revisions.empty() ? "there is none" : revisions.front()));
}

// Names the other form in which a folder without usable weights holds them.
absl::Status OtherWeights(const std::string& path, const std::vector<std::string>& names) {
  if (Holds(names, "consolidated.safetensors") ||
      std::any_of(names.begin(), names.end(),
                  [](const auto& name) { return absl::StartsWith(name, "consolidated."); })) {
    return UnsupportedFile(
        {.file = path},
        "holds consolidated.* files, in Meta's or Mistral's own layout; download "
        "the model-*.safetensors files of the same model");
  }
  if (std::any_of(names.begin(), names.end(), [](const auto& name) { return IsPickle(name); })) {
    return UnsupportedFile(
        {.file = path},
        absl::StrCat("holds its weights as pickles (.bin, .pt), which may run any code; ",
                     kConvert));
  }
  if (!WithExtension(names, ".onnx").empty() || Holds(names, "onnx")) {
    return UnsupportedFile({.file = path},
                           "holds an ONNX model; GGUF and safetensors are supported");
  }
  return absl::OkStatus();
}

absl::Status NoModel(const std::string& path, const std::vector<std::string>& names) {
  std::error_code error;
  if (fs::is_directory(fs::path(path) / "snapshots", error)) {
    return AboveSnapshots(path, fs::path(path) / "snapshots");
  }
  LECTERN_RETURN_IF_ERROR(OtherWeights(path, names));
  return InvalidFile({.file = path},
                     "holds no model: a model folder holds config.json, its tokenizer (such as "
                     "tokenizer.json) and model.safetensors or its shards");
}

constexpr std::string_view kPartEnding = "-00002-of-00003.gguf";

// Whether `name` is that of a part of a split model, NAME-00002-of-00003.gguf.
bool IsPart(const std::string& name) {
  if (name.size() < kPartEnding.size()) return false;
  const std::string_view ending = std::string_view(name).substr(name.size() - kPartEnding.size());
  return std::equal(ending.begin(), ending.end(), kPartEnding.begin(), [](char c, char wanted) {
    return absl::ascii_isdigit(wanted) ? absl::ascii_isdigit(c) : c == wanted;
  });
}

// The name of the first part, if `name` is that of a part; else `name` itself.
std::string FirstPartOf(const std::string& name) {
  if (!IsPart(name)) return name;
  const size_t begin = name.size() - kPartEnding.size();
  return absl::StrCat(name.substr(0, begin), "-00001", name.substr(begin + 6));
}

// Refuses a part of a split model whose download failed, whichever part of it `path` is.
absl::Status CheckOtherParts(const fs::path& path) {
  if (!IsPart(path.filename())) return absl::OkStatus();
  const std::string first = FirstPartOf(path.filename());
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  for (const std::string& name : WithExtension(NamesIn(folder), ".gguf")) {
    if (FirstPartOf(name) == first) LECTERN_RETURN_IF_ERROR(CheckDownloaded(folder / name));
  }
  return absl::OkStatus();
}

// The GGUF file of a folder, or the first part of the only one.
absl::StatusOr<std::string> OnlyGguf(const std::string& path,
                                     const std::vector<std::string>& ggufs) {
  const std::string first = FirstPartOf(ggufs[0]);
  for (const std::string& name : ggufs) {
    if (FirstPartOf(name) == first) continue;
    return InvalidFile({.file = path}, absl::StrCat("holds several GGUF files; give one of them: ",
                                                    absl::StrJoin(ggufs, ", ")));
  }
  if (!Holds(ggufs, first)) {
    return InvalidFile({.file = path},
                       absl::StrCat("holds parts of a split GGUF model, but not the first, ", first,
                                    "; is the download complete?"));
  }
  return std::string(fs::path(path) / first);
}

absl::StatusOr<std::string> ResolveFolder(const std::string& path) {
  const std::vector<std::string> names = NamesIn(path);
  if (Holds(names, "adapter_config.json")) {
    return UnsupportedFile({.file = path},
                           "is an adapter (LoRA), not a model; merge it into its base model "
                           "(merge_and_unload() of peft) and serve the result");
  }
  const bool has_weights =
      Holds(names, "model.safetensors") || Holds(names, "model.safetensors.index.json");
  const std::vector<std::string> ggufs = WithExtension(names, ".gguf");
  const bool has_config = Holds(names, "config.json");
  // Repositories of GGUF files often hold the config.json of the model that they were made from.
  if (!ggufs.empty() && (!has_config || !has_weights)) return OnlyGguf(path, ggufs);
  if (!has_config) return NoModel(path, names);
  const std::vector<std::string> safetensors = WithExtension(names, ".safetensors");
  for (const std::string& name : safetensors) {
    LECTERN_RETURN_IF_ERROR(CheckDownloaded(fs::path(path) / name));
  }
  for (const std::string& name : WithExtension(names, ".json")) {
    LECTERN_RETURN_IF_ERROR(CheckDownloaded(fs::path(path) / name));
  }
  if (!has_weights) LECTERN_RETURN_IF_ERROR(OtherWeights(path, names));
  return path;
}

}  // namespace

absl::StatusOr<std::string> ResolveModelPath(const std::string& path) {
  std::error_code error;
  if (path.empty() || !fs::exists(path, error)) return NothingThere(path);
  std::string resolved = path;
  if (fs::is_directory(path, error)) {
    LECTERN_ASSIGN_OR_RETURN(resolved, ResolveFolder(path));
    if (fs::is_directory(resolved, error)) return resolved;
  }
  LECTERN_RETURN_IF_ERROR(CheckFile(resolved));
  LECTERN_RETURN_IF_ERROR(CheckOtherParts(resolved));
  return resolved;
}

}  // namespace lectern
