// Which tokenizer a folder holds, and its files at the limits.
#include <gtest/gtest.h>

#include <filesystem>

#include "server/formats/format_limits.h"
#include "server/tokenizer/bpe/byte_alphabet.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/tokenizer/tokenizer_file_parts.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Ids Encode(const test::TempFolder& folder, const std::string& text, bool parse_special = false) {
  const auto tokenizer = LoadTokenizerFolder(folder.path(), -1);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? (*tokenizer)->Encode(text, parse_special).ids : Ids();
}

TEST(TokenizerFolderTest, ByWhatIsThere) {
  const test::TempFolder folder;
  test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(), kInvalid, folder.path(),
                      "holds no", "vocab.txt");
  folder.Write("vocab.json", "{}");
  test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(), kInvalid, folder.path(),
                      "holds no", "merges.txt");
  folder.Write("vocab.txt", "[UNK]\na\n");
  EXPECT_EQ(Encode(folder, "a"), Ids{1});
  folder.Write("spiece.model", test::SpieceModel());
  EXPECT_EQ(Encode(folder, "a"), Ids{4});
  folder.Write("tokenizer.json", test::WordPieceJson().dump());
  EXPECT_EQ(Encode(folder, "ab"), (Ids{1, 2}));
  folder.Write("tokenizer.json", test::UnigramJson().dump());
  EXPECT_EQ(Encode(folder, "ab"), (Ids{4, 6}));
  EXPECT_EQ((*LoadTokenizerFolder(folder.path(), 0))->eos_id(), 0);
  json bpe = json::parse(R"({"model": {"vocab": {}, "merges": ["a b"]},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}})");
  for (int byte = 0; byte < 256; ++byte) bpe["model"]["vocab"][ByteAlphabet()[byte]] = byte;
  bpe["model"]["vocab"]["ab"] = 256;
  folder.Write("tokenizer.json", bpe.dump());
  EXPECT_EQ(Encode(folder, "abb"), (Ids{256, 'b'}));
}

TEST(TokenizerFolderTest, AddedTokensWithSpieceModel) {
  const test::TempFolder folder;
  folder.Write("spiece.model", test::SpieceModel());
  folder.Write("added_tokens.json", R"({"<extra_id_0>": 9})");
  EXPECT_EQ(Encode(folder, "a<extra_id_0>", true), (Ids{4, 9}));
  folder.Write("tokenizer_config.json", R"({"added_tokens_decoder": {
      "0": {"content": "<pad>", "special": true}, "2": {"content": "<unk>", "special": true},
      "8": {"content": "<extra_id_0>", "special": true}}})");
  EXPECT_EQ(Encode(folder, "a<extra_id_0>", true), (Ids{4, 8}));
  const auto expect = [&](const char* name, const std::string& text, const char* named) {
    folder.Write(name, text);
    SCOPED_TRACE(text);
    test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(), kInvalid,
                        folder.path(name), named, "");
  };
  expect("tokenizer_config.json", R"({"added_tokens_decoder": 3})", "'added_tokens_decoder'");
  expect("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})", "lacks");
  expect("tokenizer_config.json", R"({"added_tokens_decoder": {"8": {}}})", "lacks");
  folder.Write("tokenizer_config.json", "{}");
  expect("added_tokens.json", R"({"<x>": -1})", "'<x>'");
  expect("added_tokens.json", "[]", "not an object");
}

// XLM-RoBERTa: <s> <pad> </s> <unk>, then the file's pieces after its <unk> <s> </s>, then <mask>.
TEST(TokenizerFolderTest, FairseqIds) {
  const std::string a =
      "\xe2\x96\x81"
      "a";
  const std::string pieces = test::SpiecePiece("<unk>", 0, 2) + test::SpiecePiece("<s>", 0, 3) +
                             test::SpiecePiece("</s>", 0, 3) + test::SpiecePiece(",", -1, 1) +
                             test::SpiecePiece(a, -2, 1) + test::SpiecePiece("b", -3, 1);
  const test::TempFolder folder;
  folder.Write("sentencepiece.bpe.model", pieces);
  EXPECT_EQ(Encode(folder, "ab,?"), (Ids{5, 6, 4, 3}));
  EXPECT_EQ(Encode(folder, "<s>a</s><pad><mask>", true), (Ids{0, 5, 2, 1, 7}));
  const auto tokenizer = LoadTokenizerFolder(folder.path(), -1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 8);
  EXPECT_EQ((*tokenizer)->eos_id(), 2);
  EXPECT_EQ((*tokenizer)->Decode({5, 6, 4}, /*skip_special=*/true), "ab,");
  folder.Write("sentencepiece.bpe.model", test::SpieceModel());
  test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(),
                      absl::StatusCode::kUnimplemented, folder.path("sentencepiece.bpe.model"),
                      "'pieces'", "do not begin with <unk>, <s>, </s>");
  std::mt19937 random(20261203);
  for (int i = 0; i < 2000; ++i) {
    auto config = ParseFairseqSpieceModel(test::Damage(pieces, random, pieces.size()), "damaged");
    ASSERT_TRUE(test::IsOkOrRefused(config.status())) << "iteration " << i << config.status();
    if (!config.ok()) continue;
    ASSERT_TRUE(test::IsOkOrRefused(NewUnigram(*std::move(config)).status())) << "iteration " << i;
  }
}

TEST(TokenizerFolderTest, VocabJsonAndMerges) {
  json vocabulary = {{"<s>", 256}, {"</s>", 257}, {"ab", 258}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[ByteAlphabet()[byte]] = byte;
  const test::TempFolder folder;
  folder.Write("vocab.json", vocabulary.dump());
  folder.Write("merges.txt", "#version: 0.2\r\na b\r\n");
  EXPECT_EQ(Encode(folder, "<s>abb</s>", true), (Ids{256, 258, 'b', 257}));
  folder.Write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"256": {"content": "<s>", "special": false},
                                            "259": {"content": "<mask>", "special": true}}})");
  EXPECT_EQ(Encode(folder, "<s><mask>", true).back(), 259);
  const auto expect = [&](const char* name, const std::string& text, absl::StatusCode code,
                          const char* file, const char* named) {
    folder.Write(name, text);
    SCOPED_TRACE(text);
    test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(), code, folder.path(file),
                        named, "");
  };
  expect("tokenizer_config.json", "[]", kInvalid, "tokenizer_config.json", "not an object");
  folder.Write("tokenizer_config.json", "{}");
  expect("merges.txt", "a b c\n", kInvalid, "vocab.json", "merge");
  expect("merges.txt", "a q\n", kInvalid, "vocab.json", "merge");
  folder.Write("merges.txt", "");
  expect("vocab.json", "[]", kInvalid, "vocab.json", "not an object");
  expect("vocab.json", R"({"a": "b"})", kInvalid, "vocab.json", "'model.vocab'");
}

TEST(TokenizerFolderTest, FilesBeyondTheLimits) {
  for (const char* name : {"tokenizer.json", "spiece.model", "vocab.txt", "vocab.json"}) {
    const test::TempFolder folder;
    folder.Write("merges.txt", "");
    folder.Write(name, "");
    std::filesystem::resize_file(folder.path(name), kMaxTokenizerFileBytes + 1);
    const int64_t before = test::PeakMemoryKib();
    test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(), kInvalid,
                        folder.path(name), "67108865 bytes", "at most 67108864");
    test::ExpectLittleMemory(before, 8 << 10);
  }
  const test::TempFolder folder;
  folder.Write("vocab.txt", "[UNK]\n");
  folder.Write("tokenizer_config.json", std::string(kMaxConfigJsonBytes + 1, ' '));
  test::ExpectRefused(LoadTokenizerFolder(folder.path(), -1).status(), kInvalid,
                      folder.path("tokenizer_config.json"), "1048577 bytes", "at most 1048576");
}

// The character map of a real model, damaged: 240 KB of trie and replacements.
TEST(TokenizerFolderTest, RealSpieceModelDamaged) {
  const std::filesystem::path file = test::FixtureDir() / "t5_tiny" / "v1_0" / "spiece.model";
  LECTERN_REQUIRE_FILE(std::filesystem::exists(file), file);
  std::stringstream contents;
  contents << std::ifstream(file, std::ios::binary).rdbuf();
  const std::string good = contents.str();
  const std::string text = "caf\xc3\xa9 \xef\xac\x81 \xc2\xbd \xef\xbc\xa1 e\xcc\x81 \xe3\x8b\xbf";
  std::mt19937 random(8);
  for (int round = 0; round < 60; ++round) {
    std::string bytes = good;
    for (int n = 0; n < 30; ++n) bytes = test::Damage(bytes, random, bytes.size());
    auto config = ParseSpieceModel(bytes, "spiece.model");
    ASSERT_TRUE(test::IsOkOrRefused(config.status())) << config.status();
    if (!config.ok()) continue;
    const auto tokenizer = NewUnigram(*std::move(config));
    ASSERT_TRUE(test::IsOkOrRefused(tokenizer.status())) << tokenizer.status();
    if (tokenizer.ok()) (*tokenizer)->Encode(text, false);
  }
  for (int round = 0; round < 60; ++round) {
    const auto config = ParseSpieceModel(good.substr(0, random() % good.size()), "spiece.model");
    ASSERT_TRUE(test::IsOkOrRefused(config.status())) << config.status();
  }
}

}  // namespace
}  // namespace lectern
