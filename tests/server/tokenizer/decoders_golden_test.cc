// golden/decoders: every string of every case, with the tokenizer of its folder, of its
// tokenizer.model alone, and of each of its GGUF files. Cases are discovered, so that another set
// (LECTERN_GOLDEN_DIR) runs unchanged.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "server/formats/gguf.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/server/formats/model_files.h"
#include "tests/server/tokenizer/expect_ranges.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

std::string Contents(const fs::path& file) {
  std::stringstream contents;
  contents << std::ifstream(file, std::ios::binary).rdbuf();
  return contents.str();
}

// An expected.json, read once.
const json& ReadExpected(const fs::path& path) {
  static std::map<fs::path, json>& read = *new std::map<fs::path, json>();
  const auto [found, is_new] = read.try_emplace(path);
  // Python writes a gap between no scores as Infinity.
  if (is_new) {
    found->second = json::parse(absl::StrReplaceAll(Contents(path), {{": Infinity", ": null"}}));
  }
  return found->second;
}

// A file that holds a tokenizer.
struct Vocabulary {
  std::string name;  // of the case and the file, in letters, digits and underscores
  fs::path path;     // expected.json is next to it

  const json& Expected() const { return ReadExpected(path.parent_path() / "expected.json"); }
};
void PrintTo(const Vocabulary& vocabulary, std::ostream* out) { *out << vocabulary.path; }

void Add(const fs::path& path, std::vector<Vocabulary>& all) {
  if (!fs::exists(path)) return;
  const std::string file = path.filename();
  // A file's name begins with that of its case.
  const std::string folder = path.parent_path().filename();
  std::string name = file.starts_with(folder) ? file : folder + "_" + file;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
  all.push_back({name, path});
}

std::vector<Vocabulary> Vocabularies() {
  std::vector<Vocabulary> all;
  const fs::path folder = test::GoldenDir() / "decoders";
  if (!fs::exists(folder)) return all;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path expected = entry.path() / "expected.json";
    if (!fs::exists(expected)) continue;
    Add(entry.path() / "tokenizer.json", all);
    Add(entry.path() / "tokenizer.model", all);
    const json& parsed = ReadExpected(expected);
    if (!parsed.contains("gguf")) continue;
    for (const json& file : parsed["gguf"]) {
      if (file.is_object()) Add(entry.path() / file["files"][0].get<std::string>(), all);
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return all;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const fs::path& path) {
  if (path.extension() == ".gguf") {
    const auto file = GgufFile::Open(path);
    if (!file.ok()) return file.status();
    return LoadTokenizerGguf(**file);
  }
  if (path.filename() == "tokenizer.json") return LoadTokenizerFolder(path.parent_path(), -1);
  // The folder without tokenizer.json.
  const test::TempFolder folder;
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"}) {
    if (fs::exists(path.parent_path() / name)) {
      folder.Write(name, Contents(path.parent_path() / name));
    }
  }
  return LoadTokenizerFolder(folder.path(), -1);
}

class DecodersGoldenTest : public ::testing::TestWithParam<Vocabulary> {
 protected:
  void SetUp() override {
    auto tokenizer = Load(GetParam().path);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    expected_ = GetParam().Expected();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  json expected_;
};

TEST_P(DecodersGoldenTest, EncodesAndDecodesEveryString) {
  const json& strings = expected_["tokenizer"]["strings"];
  ASSERT_GT(strings.size(), 0u);
  for (const json& c : strings) {
    const std::string text = c["text"];
    SCOPED_TRACE(c["text"].dump());
    const Ids ids = c["ids"];
    // A GGUF file of Gemma has real blanks in its tokens of several blanks, so that blanks next to
    // a literal U+2581 are no such token.
    const bool blanks = GetParam().path.extension() == ".gguf" &&
                        expected_["model_type"].get<std::string>().starts_with("gemma");
    if (blanks && text.find("\xe2\x96\x81") != std::string::npos) continue;
    const Encoding special = tokenizer_->Encode(text, /*parse_special=*/true);
    const Encoding plain = tokenizer_->Encode(text, /*parse_special=*/false);
    EXPECT_EQ(special.ids, ids);
    EXPECT_EQ(plain.ids, c.contains("ids_plain") ? c["ids_plain"].get<Ids>() : ids);
    for (const Encoding* e : {&special, &plain}) {
      test::ExpectSoundRanges(text, *e, /*may_be_bytes=*/true);
      test::ExpectStreamDecodes(*tokenizer_, e->ids);
    }
    if (c.contains("decoded")) {
      EXPECT_EQ(tokenizer_->Decode(ids, /*skip_special=*/false), c["decoded"].get<std::string>());
    }
    if (c.contains("decoded_without_special")) {
      EXPECT_EQ(tokenizer_->Decode(ids, /*skip_special=*/true),
                c["decoded_without_special"].get<std::string>());
    }
  }
}

TEST_P(DecodersGoldenTest, IllFormedPartsAreReplaced) {
  const json& tokenizer = expected_["tokenizer"];
  if (!tokenizer.contains("invalid_utf8")) GTEST_SKIP() << "the case has no ill-formed strings";
  for (const json& c : tokenizer["invalid_utf8"]) {
    SCOPED_TRACE(c["bytes_hex"].get<std::string>());
    const std::string text = absl::HexStringToBytes(c["bytes_hex"].get<std::string>());
    const Encoding e = tokenizer_->Encode(text, /*parse_special=*/false);
    EXPECT_EQ(e.ids, c["ids"].get<Ids>());
    test::ExpectSoundRanges(text, e, /*may_be_bytes=*/true);
  }
}

TEST_P(DecodersGoldenTest, BeginTokenIsNamed) {
  if (!expected_.contains("bos")) GTEST_SKIP() << "a reader frames its texts itself";
  const json& bos = expected_["bos"];
  const bool adds = bos["tokenizer_adds_it"];
  EXPECT_EQ(tokenizer_->adds_bos(), adds);
  if (adds) {
    EXPECT_EQ(tokenizer_->bos_id(), bos["id"].get<int32_t>());
  }
  for (const json& c : expected_["tokenizer"]["with_special_tokens"]) {
    Ids ids = tokenizer_->Encode(c["text"].get<std::string>(), /*parse_special=*/false).ids;
    if (adds) ids.insert(ids.begin(), tokenizer_->bos_id());
    EXPECT_EQ(ids, c["ids"].get<Ids>()) << c["text"];
  }
}

TEST_P(DecodersGoldenTest, PromptsAreTheirTextsTokens) {
  if (!expected_.contains("chat")) GTEST_SKIP() << "the case has no prompts";
  for (const json& prompt : expected_["chat"]["prompts"]) {
    // There special tokens are recognised in the template's own text alone.
    if (prompt["name"] == "special_text_in_content") continue;
    EXPECT_EQ(tokenizer_->Encode(prompt["text"].get<std::string>(), /*parse_special=*/true).ids,
              prompt["ids"].get<Ids>())
        << prompt["name"];
  }
}

TEST_P(DecodersGoldenTest, OddTextsHaveSoundRanges) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const std::string odd = test::OddText(random);
    const Encoding encoded = tokenizer_->Encode(odd, round % 2 == 0);
    test::ExpectSoundRanges(odd, encoded, /*may_be_bytes=*/true);
    test::ExpectStreamDecodes(*tokenizer_, encoded.ids);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, DecodersGoldenTest, ::testing::ValuesIn(Vocabularies()),
                         [](const auto& info) { return info.param.name; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DecodersGoldenTest);

TEST(DecodersGoldenDataTest, CasesArePresent) {
  LECTERN_REQUIRE_FILE(!Vocabularies().empty(), "golden folder decoders");
}

}  // namespace
}  // namespace lectern
