// Folders of GGUF files of the golden decoders: models split into parts, and folders whose weights
// are in one GGUF file next to config.json.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "server/model/loading/model_loader.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;

struct GgufCase {
  fs::path folder;
  std::vector<std::string> files;  // the parts of one model
};

// The GGUF models that `wanted(folder, files)` is true for.
template <typename Wanted>
std::vector<GgufCase> Cases(const Wanted& wanted) {
  std::vector<GgufCase> cases;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(GoldenDir() / "decoders", error)) {
    std::ifstream file(entry.path() / "expected.json");
    if (!file) continue;
    std::ostringstream text;
    text << file.rdbuf();
    // Python writes a gap between no scores as Infinity.
    const auto json =
        nlohmann::json::parse(absl::StrReplaceAll(text.str(), {{": Infinity", ": null"}}));
    if (!json.contains("gguf")) continue;
    for (const auto& gguf : json["gguf"]) {
      if (!gguf.is_object()) continue;
      const auto files = gguf["files"].get<std::vector<std::string>>();
      if (wanted(entry.path(), files)) cases.push_back({entry.path(), files});
    }
  }
  return cases;
}

ModelLoadOptions Options(const fs::path& path) {
  return {
      .name = "model", .path = path, .numerics = ModelLoadOptions::Numerics::kF32, .threads = 1};
}

void ExpectSameModel(const ModelInfo& got, const ModelInfo& want) {
  EXPECT_EQ(got.parameters, want.parameters);
  EXPECT_EQ(got.weight_bytes, want.weight_bytes);
  EXPECT_EQ(got.vocabulary, want.vocabulary);
}

class FlippedByte {
 public:
  explicit FlippedByte(const fs::path& path) : path_(path) { Flip(); }
  ~FlippedByte() { Flip(); }

 private:
  void Flip() const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-4, std::ios::end);  // the lowest bits of the last value
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(-4, std::ios::end);
    file.put(byte);
  }
  const fs::path path_;
};

TEST(GgufFoldersTest, PartsAreDescribedHashedAndCountedTogether) {
  const auto cases = Cases([](const auto&, const auto& files) { return files.size() > 1; });
  LECTERN_REQUIRE_FILE(!cases.empty(), GoldenDir() / "decoders");
  const fs::path folder =
      fs::path(testing::TempDir()) / ("gguf_folders_test_" + std::to_string(getpid()));
  for (const GgufCase& one : cases) {
    SCOPED_TRACE(one.files[0]);
    fs::create_directories(folder);
    for (const std::string& file : one.files) fs::copy_file(one.folder / file, folder / file);
    const auto model = LoadModel(Options(folder / one.files[0]));
    ASSERT_TRUE(model.ok()) << model.status();
    const ModelInfo& info = (*model)->info();
    const auto whole = LoadModel(Options(one.folder));  // safetensors of the same weights
    ASSERT_TRUE(whole.ok()) << whole.status();
    ExpectSameModel(info, (*whole)->info());
    // The folder means the first part.
    const auto description = DescribeModel(Options(folder));
    ASSERT_TRUE(description.ok()) << description.status();
    const auto whole_description = DescribeModel(Options(one.folder));
    ASSERT_TRUE(whole_description.ok()) << whole_description.status();
    ExpectSameModel(description->info, whole_description->info);
    for (const std::string& file : one.files) {
      const FlippedByte flipped(folder / file);
      const auto changed = LoadModel(Options(folder));
      ASSERT_TRUE(changed.ok()) << changed.status();
      EXPECT_NE((*changed)->info().fingerprint, info.fingerprint) << file;
    }
    fs::remove_all(folder);
  }
}

TEST(GgufFoldersTest, AFolderOfOneGgufFileAndConfigJsonIsThatFile) {
  const auto cases = Cases([](const fs::path& folder, const auto& files) {
    return files.size() == 1 && fs::exists(folder / "config.json") &&
           !fs::exists(folder / "model.safetensors") &&
           !fs::exists(folder / "model.safetensors.index.json");
  });
  LECTERN_REQUIRE_FILE(!cases.empty(), GoldenDir() / "decoders");
  for (const GgufCase& one : cases) {
    SCOPED_TRACE(one.folder);
    const auto folder = LoadModel(Options(one.folder));
    ASSERT_TRUE(folder.ok()) << folder.status();
    const auto file = LoadModel(Options(one.folder / one.files[0]));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*folder)->info().format, "gguf");
    EXPECT_EQ((*folder)->info().fingerprint, (*file)->info().fingerprint);
  }
}

}  // namespace
}  // namespace lectern::test
