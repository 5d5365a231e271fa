// Vocabularies of T5 and BERT, damaged in one place each and at random: a typed refusal that names
// the file, or a tokenizer that works; never a crash, never much memory.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "absl/strings/escaping.h"
#include "server/base/utf8.h"
#include "server/model/loaders/tokenizer_files.h"
#include "tests/server/model/loaders/expect_refused.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;
using Piece = UnigramConfig::Piece;

std::string ReadAll(const std::filesystem::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(out).str();
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7f));
  return bytes + static_cast<char>(value);
}

std::string Number(uint32_t field, uint64_t value) { return Varint(field << 3) + Varint(value); }
std::string Bytes(uint32_t field, const std::string& bytes) {
  return Varint(field << 3 | 2) + Varint(bytes.size()) + bytes;
}

std::string PieceOf(const std::string& text, float score, int type) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &score, 4);
  return Bytes(1, Bytes(1, text) + Varint(2 << 3 | 5) + bytes + Number(3, type));
}

std::string SmallModel() {
  return PieceOf("<unk>", 0, 2) + PieceOf("</s>", 0, 3) + PieceOf("\xe2\x96\x81", -2, 1) +
         PieceOf("a", -1, 1) + PieceOf("ab", -1.5, 1);
}

// Whatever a text is, ranges lie on its characters and ids in the vocabulary.
void ExpectSound(const Tokenizer& tokenizer, const std::string& text) {
  const Encoding e = tokenizer.Encode(text, /*parse_special=*/true);
  ASSERT_EQ(e.begin.size(), e.ids.size());
  ASSERT_EQ(e.end.size(), e.ids.size());
  for (size_t i = 0; i < e.ids.size(); ++i) {
    ASSERT_GE(e.ids[i], 0);
    ASSERT_LT(e.ids[i], tokenizer.vocab_size());
    ASSERT_LE(e.begin[i], e.end[i]);
    ASSERT_LE(e.end[i], text.size());
  }
  tokenizer.Decode(e.ids, true);
}

TEST(HostilePiecesTest, TheSmallModelWorks) {
  const auto config = ParseSpieceModel(SmallModel(), "small");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto tokenizer = NewUnigram(*config);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode(" ab  a?\xff", false).ids, (std::vector<int32_t>{2, 4, 2, 3, 0}));
  EXPECT_EQ((*tokenizer)->Encode("a</s>", true).ids, (std::vector<int32_t>{2, 3, 1}));
  EXPECT_EQ((*tokenizer)->Decode({2, 4, 2, 3, 1}, true), "ab a");
}

TEST(HostilePiecesTest, SpieceModels) {
  const std::string small = SmallModel();
  struct Case {
    std::string bytes;
    const char* why;
  };
  const std::vector<Case> parsed = {
      {small + "\x0a", "model"},
      {small + Varint(1 << 3 | 2) + Varint(~0ull), "model"},
      {small + std::string(11, '\xff'), "model"},
      {small + Varint(1 << 3 | 3), "model"},
      {small + Number(1, 3), "pieces"},
      {small + Bytes(1, "\x0a\xff"), "pieces"},
      {small + PieceOf("x", 0, 7), "pieces.type"},
      {small + Bytes(2, Number(40, 1ull << 40)), "trainer_spec"},
      {small + Bytes(2, "\xff"), "trainer_spec"},
      {small + Bytes(3, "\x12\x7f"), "normalizer_spec"},
  };
  for (const Case& c : parsed) {
    const auto config = ParseSpieceModel(c.bytes, "hostile");
    test::ExpectRefused(config.status(), absl::StatusCode::kInvalidArgument, "hostile", c.why, "");
  }
  for (const std::string& bytes : {small + Bytes(2, Number(3, 2)), small + Bytes(2, Number(24, 1)),
                                   small + Bytes(3, Number(5, 0))}) {
    EXPECT_EQ(ParseSpieceModel(bytes, "hostile").status().code(), absl::StatusCode::kUnimplemented);
  }
  const std::string nan = PieceOf("y", std::numeric_limits<float>::quiet_NaN(), 1);
  const std::vector<Case> made = {
      {"", "0 pieces"},
      {PieceOf("a", 0, 1), "unknown piece"},
      {PieceOf("<unk>", 0, 2), "no piece stands for text"},
      {small + PieceOf("ab", -9, 1), "are the same"},
      {small + PieceOf("", 0, 1), "has 0 bytes"},
      {small + PieceOf(std::string(5000, 'x'), 0, 1), "5000 bytes"},
      {small + nan, "has no score"},
      {small + Bytes(2, Number(40, 77)), "not one of"},
      {small + Bytes(2, Number(35, 1)), "byte pieces"},
      {small + Bytes(3, Bytes(2, "\x01")), "character map"},
      {small + Bytes(3, Bytes(2, std::string("\xff\xff\xff\xff", 4))), "character map"},
  };
  for (const Case& c : made) {
    const auto config = ParseSpieceModel(c.bytes, "hostile");
    ASSERT_TRUE(config.ok()) << config.status();
    const auto status = NewUnigram(*config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    const std::string message(status.message());
    EXPECT_NE(message.find("hostile"), std::string::npos) << message;
    EXPECT_NE(message.find(c.why), std::string::npos) << message;
  }
}

// Tries that point outside themselves, in circles, or at replacements that are not there.
TEST(HostilePiecesTest, CharacterMaps) {
  std::mt19937 random(1);
  const auto base = ParseSpieceModel(SmallModel(), "small");
  for (int round = 0; round < 300; ++round) {
    UnigramConfig config = *base;
    const uint32_t units = random() % 40 + 1;
    std::string trie(units * 4, '\0');
    for (char& byte : trie) byte = static_cast<char>(random());
    if (round % 3 == 0) {  // labels that match: 'a' is 97
      for (uint32_t i = 0; i < units; ++i) trie[i * 4] = 'a';
      for (uint32_t i = 0; i < units; ++i) trie[i * 4 + 3] = 0;
    }
    const uint32_t size = units * 4;
    config.char_map.assign(reinterpret_cast<const char*>(&size), 4);
    config.char_map += trie + "bb" + std::string(1, '\0');
    const auto tokenizer = NewUnigram(config);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ExpectSound(**tokenizer, "aaaa ab \xc3\xa9 \xe4\xbd\xa0 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
  }
}

TEST(HostilePiecesTest, RealFilesDamagedAtRandom) {
  const auto folder = test::GoldenDir();
  const std::string spiece = ReadAll(folder / "t5_tiny" / "v1_0" / "spiece.model");
  LECTERN_REQUIRE_FILE(!spiece.empty(), folder / "t5_tiny");
  std::mt19937 random(7);
  int worked = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = spiece;
    if (round % 3 == 0) bytes.resize(random() % bytes.size());
    for (int flip = round % 3 == 0 ? 0 : 1 + round % 7; flip > 0; --flip) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const auto config = ParseSpieceModel(bytes, "damaged");
    if (!config.ok()) {
      EXPECT_TRUE(test::IsOkOrRefused(config.status())) << config.status();
      continue;
    }
    const auto tokenizer = NewUnigram(*config);
    if (!tokenizer.ok()) {
      EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
      continue;
    }
    ++worked;
    ExpectSound(**tokenizer, "Where did Kofi Mensah work? \\n \xc2\xbd \xef\xac\x81 \xe4\xbd\xa0");
  }
  EXPECT_GT(worked, 100);
}

// A tokenizer.json of the same pieces gives the same ids.
TEST(HostilePiecesTest, UnigramJson) {
  const auto from_file =
      ParseSpieceModel(ReadAll(test::GoldenDir() / "t5_tiny" / "v1_0" / "spiece.model"), "spiece");
  ASSERT_TRUE(from_file.ok()) << from_file.status();
  json root = json::parse(R"({"normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Precompiled"}, {"type": "Strip"},
      {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
      {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}]},
    "model": {"type": "Unigram", "unk_id": 2, "vocab": []}, "added_tokens": [
      {"id": 0, "content": "<pad>", "special": true}, {"id": 1, "content": "</s>", "special": true},
      {"id": 402, "content": "<extra_id_0>", "special": true}]})");
  root["normalizer"]["normalizers"][0]["precompiled_charsmap"] =
      absl::Base64Escape(from_file->char_map);
  for (const Piece& piece : from_file->pieces) {
    root["model"]["vocab"].push_back({piece.text, piece.score});
  }
  const auto config = ParseUnigramJson(root, "json", 1);
  ASSERT_TRUE(config.ok()) << config.status();
  const auto a = NewUnigram(*from_file), b = NewUnigram(*config);
  ASSERT_TRUE(b.ok()) << b.status();
  json golden;
  std::ifstream(test::GoldenDir() / "t5_tiny" / "tokenizer.json") >> golden;
  for (const json& c : golden) {
    const std::string text = c.at("text");
    EXPECT_EQ((*a)->Encode(text, false).ids, (*b)->Encode(text, false).ids) << text;
  }
  EXPECT_EQ((*b)->Encode("<extra_id_0>", true).ids, std::vector<int32_t>{402});
  const auto refused = [&](const char* pointer, const json& value) {
    json damaged = root;
    damaged[json::json_pointer(pointer)] = value;
    return ParseUnigramJson(damaged, "json", 1).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refused("/model/vocab", 3), kInvalid);
  EXPECT_EQ(refused("/model/vocab/5", json::array({"x"})), kInvalid);
  EXPECT_EQ(refused("/model/vocab/5/1", "x"), kInvalid);
  EXPECT_EQ(refused("/model/unk_id", 100000), kInvalid);
  EXPECT_EQ(refused("/model/unk_id", -1), kInvalid);
  EXPECT_EQ(refused("/added_tokens", 1), kInvalid);
  EXPECT_EQ(refused("/added_tokens/0/id", uint64_t{1} << 60), kInvalid);
  EXPECT_EQ(refused("/normalizer/normalizers/0/precompiled_charsmap", "!"), kInvalid);
  EXPECT_EQ(refused("/normalizer/normalizers/1/type", "NFD"), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(refused("/pre_tokenizer/type", "Digits"), absl::StatusCode::kUnimplemented);
}

TEST(HostilePiecesTest, WordPiece) {
  const auto config = ParseVocabTxt("[PAD]\n[UNK]\r\n[CLS]\n[SEP]\nwo\n##rd\n,\n", "vocab");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->tokens.size(), 7u);
  const auto tokenizer = NewWordPiece(*config);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("W\xc3\xb6rd,w [CLS]", true).ids,
            (std::vector<int32_t>{4, 5, 6, 1, 2}));
  EXPECT_EQ((*tokenizer)->Decode({2, 4, 5, 6, 4}, true), "word, wo");
  for (const std::string text : {"\xff\xc3", "a\xf0\x9f", "\xed\xa0\x80x", ""}) {
    ExpectSound(**tokenizer, text);
  }
  ExpectSound(**tokenizer, std::string(100000, 'w'));
  WordPieceConfig twice = *config;
  twice.tokens.push_back("wo");
  EXPECT_NE(NewWordPiece(twice).status().message().find("are the same"), std::string::npos);
  WordPieceConfig without = *config;
  without.tokens[1] = "x";
  EXPECT_NE(NewWordPiece(without).status().message().find("[UNK]"), std::string::npos);
  EXPECT_FALSE(NewWordPiece({}).ok());
}

TEST(HostilePiecesTest, WordPieceJson) {
  const json root = json::parse(R"({"normalizer": {"type": "BertNormalizer", "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": {"type": "WordPiece",
    "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": {"[UNK]": 0, "a": 1}}})");
  const auto config = ParseWordPieceJson(root, "json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*NewWordPiece(*config))->Encode("A", false).ids, std::vector<int32_t>{1});
  const auto refused = [&](const char* pointer, const json& value) {
    json damaged = root;
    damaged[json::json_pointer(pointer)] = value;
    return ParseWordPieceJson(damaged, "json").status().code();
  };
  EXPECT_EQ(refused("/model/vocab/a", 7), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused("/model/vocab", json::array()), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused("/normalizer/type", "NFC"), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(refused("/pre_tokenizer/type", "Split"), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(refused("/model/continuing_subword_prefix", "@@"), absl::StatusCode::kUnimplemented);
}

TEST(HostilePiecesTest, FoldersWithoutAVocabulary) {
  EXPECT_EQ(LoadTokenizerFolder(testing::TempDir() + "/nothing", 1).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lectern
