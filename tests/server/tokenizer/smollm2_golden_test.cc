// golden/smollm2: every string, byte sequence, token stream of the golden files, with the
// vocabulary of the real model file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/formats/gguf.h"
#include "server/tokenizer/bpe/bpe.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;

std::string ModelPath() {
  if (const char* path = std::getenv("LECTERN_MODEL")) return path;
  const char* deps = std::getenv("LECTERN_DEPS_DIR");
  return std::string(deps == nullptr ? "" : deps) + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

class SmolLm2GoldenTest : public testing::Test {
 protected:
  // False after a skip or a failure.
  void Open(const std::string& name) {
    folder_ = test::GoldenDir() / "smollm2";
    LECTERN_REQUIRE_FILE(std::filesystem::exists(folder_ / name), folder_ / name);
    LECTERN_REQUIRE_FILE(std::filesystem::exists(ModelPath()), ModelPath());
    std::ifstream(folder_ / name) >> golden_;
    auto file = GgufFile::Open(ModelPath());
    ASSERT_TRUE(file.ok()) << file.status();
    auto config = ReadGgufTokenizer(**file);
    ASSERT_TRUE(config.ok()) << config.status();
    auto tokenizer = NewBpe(*std::move(config));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  // Ranges ascend, lie inside the text, and give the token back.
  void ExpectSoundRanges(const std::string& text, const Encoding& e) {
    ASSERT_EQ(e.begin.size(), e.ids.size());
    uint32_t last = 0;
    for (size_t i = 0; i < e.ids.size(); ++i) {
      EXPECT_LE(last, e.begin[i]);
      EXPECT_LE(e.begin[i], e.end[i]);
      EXPECT_LE(e.end[i], text.size());
      last = e.begin[i];
    }
  }

  std::filesystem::path folder_;
  json golden_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SmolLm2GoldenTest, EncodesAndDecodesEveryString) {
  Open("tokenizer.json");
  if (!tokenizer_) return;
  ASSERT_GT(golden_["strings"].size(), 0u);
  for (const json& c : golden_["strings"]) {
    const std::string text = c["text"];
    const Encoding e = tokenizer_->Encode(text, true);
    EXPECT_EQ(e.ids, c["ids"].get<std::vector<int32_t>>()) << text;
    ExpectSoundRanges(text, e);
    EXPECT_EQ(tokenizer_->Decode(e.ids, false), c["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer_->Decode(e.ids, true), c["decoded_skip_special"].get<std::string>());
  }
}

TEST_F(SmolLm2GoldenTest, ReadsInvalidUtf8AsReplacementCharacters) {
  Open("tokenizer.json");
  if (!tokenizer_) return;
  for (const json& c : golden_["invalid_utf8"]) {
    const std::string hex = c.contains("bytes_hex") ? c["bytes_hex"] : c["hex"];
    const std::string bytes = FromHex(hex);
    const Encoding e = tokenizer_->Encode(bytes, true);
    EXPECT_EQ(e.ids, c["ids"].get<std::vector<int32_t>>()) << hex;
    ExpectSoundRanges(bytes, e);
  }
}

TEST_F(SmolLm2GoldenTest, StreamsOnlyWholeCharacters) {
  Open("detokenizer.json");
  if (!tokenizer_) return;
  ASSERT_GT(golden_.size(), 0u);
  for (const json& c : golden_) {
    const auto decoder = tokenizer_->NewStreamDecoder();
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(decoder->Append(ids[i]), c["pieces"][i].get<std::string>())
          << c["bytes_hex"] << " at " << i;
    }
    EXPECT_EQ(decoder->Finish(), c["final"].get<std::string>()) << c["bytes_hex"];
  }
}

}  // namespace
}  // namespace lectern
