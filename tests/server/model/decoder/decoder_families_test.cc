// Every decoder of the golden family "decoders", as a folder and as GGUF files: its configuration
// is read, its tensors are found, and the two formats agree.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/str_replace.h"
#include "server/formats/safetensors.h"
#include "server/model/decoder/decoder_tensors.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

struct Opened {
  std::unique_ptr<TensorSource> source;
  DecoderConfig config;
  DecoderTensors tensors;
};

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

absl::StatusOr<DecoderConfig> FolderConfig(const fs::path& folder, int64_t context_length = 0) {
  const fs::path path = folder / "config.json";
  return ReadDecoderConfigJson(ReadAll(path), path.string(), context_length);
}

absl::StatusOr<Opened> OpenFolder(const fs::path& folder) {
  Opened opened;
  auto config = FolderConfig(folder);
  if (!config.ok()) return config.status();
  opened.config = *config;
  auto source = OpenSafetensors(folder.string(), /*ignore_other_types=*/true);
  if (!source.ok()) return source.status();
  opened.source = *std::move(source);
  auto tensors = FindDecoderTensors(*opened.source, opened.config, DecoderNaming::kHuggingFace);
  if (!tensors.ok()) return tensors.status();
  opened.tensors = *std::move(tensors);
  return opened;
}

absl::StatusOr<Opened> OpenGguf(const fs::path& path, int64_t context_length = 0) {
  Opened opened;
  auto file = GgufFile::Open(path.string());
  if (!file.ok()) return file.status();
  auto config = ReadDecoderConfig(**file, context_length);
  if (!config.ok()) return config.status();
  opened.config = *config;
  auto tensors = FindDecoderTensors(**file, opened.config, DecoderNaming::kGguf);
  if (!tensors.ok()) return tensors.status();
  opened.tensors = *std::move(tensors);
  opened.source = *std::move(file);
  return opened;
}

// expected.json, in which Python writes Infinity where nothing was selected.
nlohmann::json ReadExpected(const fs::path& path) {
  return nlohmann::json::parse(absl::StrReplaceAll(ReadAll(path), {{": Infinity", ": null"}}));
}

// The folders of decoders, by name.
std::map<std::string, nlohmann::json> Cases() {
  std::map<std::string, nlohmann::json> cases;
  const fs::path root = test::GoldenDir() / "decoders";
  if (!fs::exists(root)) return cases;
  for (const auto& entry : fs::directory_iterator(root)) {
    const fs::path expected = entry.path() / "expected.json";
    if (!fs::exists(expected)) continue;
    const auto json = ReadExpected(expected);
    if (json.contains("prompt_ids")) cases[entry.path().filename().string()] = json;  // a decoder
  }
  return cases;
}

fs::path FolderOf(const std::string& name) { return test::GoldenDir() / "decoders" / name; }

bool HasSafetensors(const fs::path& folder) {
  return fs::exists(folder / "model.safetensors") ||
         fs::exists(folder / "model.safetensors.index.json");
}

// The names of all tensor types that this build reads.
std::set<std::string_view> TypeNames() {
  std::set<std::string_view> names;
  for (int i = 0; ToString(static_cast<TensorType>(i)) != "unknown"; ++i) {
    names.insert(ToString(static_cast<TensorType>(i)));
  }
  return names;
}

bool IsReadable(const nlohmann::json& gguf) {
  const std::set<std::string_view> readable = TypeNames();
  if (!gguf.contains("types")) return true;  // F32
  const auto types = gguf["types"].items();
  return std::all_of(types.begin(), types.end(),
                     [&](const auto& type) { return readable.contains(type.key()); });
}

// The GGUF files of a case, the first part of split ones, with their entry in expected.json.
std::map<std::string, nlohmann::json> GgufFiles(const nlohmann::json& expected) {
  std::map<std::string, nlohmann::json> files;
  if (!expected.contains("gguf")) return files;
  for (const auto& [name, entry] : expected["gguf"].items()) {
    if (!entry.is_object()) continue;  // a note
    if (!IsReadable(entry)) continue;
    files[entry["files"][0].get<std::string>()] = entry;
  }
  return files;
}

bool NamesWindow(const Opened& gguf) {
  const auto& file = static_cast<const GgufFile&>(*gguf.source);
  const std::string architecture = file.GetString("general.architecture").value();
  return file.Has(architecture + ".attention.sliding_window");
}

void ExpectClose(double got, double want) { EXPECT_NEAR(got, want, 1e-6 * std::abs(want)); }

void ExpectSameRope(const RopeConfig& got, const RopeConfig& want) {
  ExpectClose(got.factor, want.factor);
  ASSERT_EQ(got.inverse_frequencies.size(), want.inverse_frequencies.size());
  for (size_t i = 0; i < got.inverse_frequencies.size(); ++i) {
    ExpectClose(got.inverse_frequencies[i], want.inverse_frequencies[i]);
  }
}

void ExpectSameConfig(const DecoderConfig& got, const DecoderConfig& want) {
  EXPECT_EQ(got.hidden, want.hidden);
  EXPECT_EQ(got.heads, want.heads);
  EXPECT_EQ(got.kv_heads, want.kv_heads);
  EXPECT_EQ(got.head_dim, want.head_dim);
  EXPECT_EQ(got.intermediate, want.intermediate);
  EXPECT_EQ(got.vocab, want.vocab);
  EXPECT_EQ(got.context_length, want.context_length);
  EXPECT_EQ(got.tied, want.tied);
  EXPECT_EQ(got.activation, want.activation);
  ExpectClose(got.rms_eps, want.rms_eps);
  ExpectClose(got.embedding_factor, want.embedding_factor);
  ExpectClose(got.residual_factor, want.residual_factor);
  ExpectClose(got.logit_factor, want.logit_factor);
  ExpectClose(got.logit_cap, want.logit_cap);
  ASSERT_EQ(got.layer.size(), want.layer.size());
  for (size_t i = 0; i < got.layer.size(); ++i) {
    SCOPED_TRACE("layer " + std::to_string(i));
    const DecoderLayer& a = got.layer[i];
    const DecoderLayer& b = want.layer[i];
    EXPECT_EQ(a.attention_norm, b.attention_norm);
    EXPECT_EQ(a.attention_post_norm, b.attention_post_norm);
    EXPECT_EQ(a.ffn_norm, b.ffn_norm);
    EXPECT_EQ(a.ffn_post_norm, b.ffn_post_norm);
    EXPECT_EQ(a.qk_norm, b.qk_norm);
    EXPECT_EQ(a.window, b.window);
    ExpectClose(a.scale, b.scale);
    ExpectClose(a.score_cap, b.score_cap);
    ASSERT_EQ(a.rope < 0, b.rope < 0);
    if (a.rope >= 0) ExpectSameRope(got.ropes.at(a.rope), want.ropes.at(b.rope));
  }
}

// The guarantees in decoder_config.h that a test can check on any model.
void ExpectConsistent(const DecoderConfig& config) {
  EXPECT_EQ(static_cast<int64_t>(config.layer.size()), config.layers);
  for (const DecoderLayer& layer : config.layer) {
    EXPECT_LT(layer.rope, static_cast<int>(config.ropes.size()));
    EXPECT_TRUE(layer.window >= 0 && layer.window < config.context_length) << layer.window;
    EXPECT_GT(layer.scale, 0);
  }
  for (const RopeConfig& rope : config.ropes) {
    EXPECT_GE(rope.inverse_frequencies.size(), 1u);
    EXPECT_LE(static_cast<int64_t>(rope.inverse_frequencies.size()), config.head_dim / 2);
    for (const double frequency : rope.inverse_frequencies) EXPECT_TRUE(std::isfinite(frequency));
  }
}

TEST(DecoderFamiliesTest, FoldersAreRead) {
  const auto cases = Cases();
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family decoders");
  for (const auto& [name, expected] : cases) {
    SCOPED_TRACE(name);
    const auto config = FolderConfig(FolderOf(name));
    ASSERT_TRUE(config.ok()) << config.status();
    ExpectConsistent(*config);
    for (const int32_t id : config->end_ids) {
      const auto& ends = expected["end_token_ids"];
      EXPECT_NE(std::find(ends.begin(), ends.end(), id), ends.end()) << id;
    }
    if (!HasSafetensors(FolderOf(name))) continue;
    const auto opened = OpenFolder(FolderOf(name));
    EXPECT_TRUE(opened.ok()) << opened.status();
  }
}

TEST(DecoderFamiliesTest, GgufFilesAgreeWithTheirFolder) {
  const auto cases = Cases();
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family decoders");
  for (const auto& [name, expected] : cases) {
    for (const auto& [file, entry] : GgufFiles(expected)) {
      SCOPED_TRACE(file);
      const auto gguf = OpenGguf(FolderOf(name) / file);
      ASSERT_TRUE(gguf.ok()) << gguf.status();
      ExpectConsistent(gguf->config);
      auto folder = FolderConfig(FolderOf(name));
      ASSERT_TRUE(folder.ok()) << folder.status();
      if (!NamesWindow(*gguf)) {  // as GGUF files of Mistral, which cannot
        for (DecoderLayer& layer : folder->layer) layer.window = 0;
      }
      ExpectSameConfig(gguf->config, *folder);
    }
  }
}

}  // namespace
}  // namespace lectern
