// Vocabularies of byte-pair encoding in tokenizer.json, tokenizer.model and GGUF, damaged at random
// and in one place each. Whatever is accepted encodes and decodes any text with sound ranges.
#include <gtest/gtest.h>

#include "server/formats/gguf.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/tokenizer/expect_ranges.h"
#include "tests/server/tokenizer/tokenizer_file_parts.h"

namespace lectern {
namespace {

using nlohmann::json;
using test::ArrayOf;
using test::GgufText;
using test::Le;
using Ids = std::vector<int32_t>;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;

absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const std::string& text) {
  return NewTokenizerFromJson(text, "tokenizer.json", -1);
}
absl::StatusOr<std::unique_ptr<Tokenizer>> FromSpiece(const std::string& bytes) {
  return NewTokenizerFromSpiece(bytes, "tokenizer.model", {}, -1);
}

// Refused, or a tokenizer that keeps its promises.
void ExpectSound(const absl::StatusOr<std::unique_ptr<Tokenizer>>& tokenizer,
                 std::mt19937& random) {
  ASSERT_TRUE(test::IsOkOrRefused(tokenizer.status())) << tokenizer.status();
  if (!tokenizer.ok()) return;
  const std::string text = test::OddText(random) + "abba a\xc3\xa9 </s> <t> <|end|>\xff";
  for (const bool parse_special : {false, true}) {
    const Encoding e = (*tokenizer)->Encode(text, parse_special);
    test::ExpectSoundRanges(text, e, /*may_be_bytes=*/true);
    test::ExpectStreamDecodes(**tokenizer, e.ids);
  }
}

void ExpectDamagedSound(const std::string& good, unsigned seed,
                        absl::StatusOr<std::unique_ptr<Tokenizer>> (*load)(const std::string&)) {
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    ExpectSound(load(test::Damage(good, random, good.size())), random);
  }
  for (int round = 0; round < 200; ++round) {
    ExpectSound(load(good.substr(0, random() % good.size())), random);
  }
}

TEST(HostileBpeTest, WholeFilesAreRead) {
  auto t = FromJson(test::CharacterBpeJson().dump());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("ab b", false).ids, (Ids{264, 259, 261}));
  EXPECT_EQ((*t)->Encode("a</s>  b<s>", true).ids, (Ids{262, 2, 259, 261, 1}));
  EXPECT_EQ((*t)->Encode("a\xc3\xa9", false).ids, (Ids{262, 3 + 0xc3, 3 + 0xa9}));
  EXPECT_EQ((*t)->bos_id(), 1);
  t = FromJson(test::ByteBpeJson().dump());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("ab <t>12", false).ids, (Ids{256, 258, '1', '2'}));
  t = FromSpiece(test::SpieceBpeModel());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("a ab", false).ids, (Ids{4, 4, 6}));
  EXPECT_TRUE((*t)->adds_bos());
  EXPECT_EQ((*t)->bos_id(), 0);
  EXPECT_EQ((*t)->eos_id(), 1);
}

TEST(HostileBpeTest, TokenizerJsonWithRandomDamage) {
  ExpectDamagedSound(test::CharacterBpeJson().dump(), 1, FromJson);
  ExpectDamagedSound(test::ByteBpeJson().dump(), 2, FromJson);
}

// Damage of the parts around the vocabulary, which is most of a file.
TEST(HostileBpeTest, PipelinesWithRandomDamage) {
  for (const json& good : {test::CharacterBpeJson(), test::ByteBpeJson()}) {
    json pipeline = good;
    const json model = pipeline["model"];
    pipeline.erase("model");
    const std::string text = pipeline.dump();
    std::mt19937 random(3);
    for (int round = 0; round < 3000; ++round) {
      json damaged = json::parse(test::Damage(text, random, text.size()), nullptr, false);
      if (!damaged.is_object()) continue;
      damaged["model"] = model;
      ExpectSound(FromJson(damaged.dump(-1, ' ', false, json::error_handler_t::replace)), random);
    }
  }
}

TEST(HostileBpeTest, TokenizerModelWithRandomDamage) {
  ExpectDamagedSound(test::SpieceBpeModel(), 4, FromSpiece);
}

test::GgufParts Gguf(bool sentence_piece) {
  test::GgufParts parts;
  parts.Set("tokenizer.ggml.model", test::Text(sentence_piece ? "llama" : "gpt2"));
  parts.Set("tokenizer.ggml.pre", test::Text(sentence_piece ? "default" : "llama-bpe"));
  const std::string blank = "\xe2\x96\x81";
  std::string tokens = GgufText("<unk>") + GgufText("<s>") + GgufText("</s>") + GgufText("a") +
                       GgufText("b") + GgufText("ab") + GgufText("<t>");
  std::string types, scores;
  uint64_t count = 7;
  for (const int type : {2, 3, 3, 1, 1, 1, 4}) types += Le<int32_t>(type);
  for (int byte = 0; byte < 256 && sentence_piece; ++byte, ++count) {
    char token[8];
    std::snprintf(token, sizeof(token), "<0x%02X>", byte);
    tokens += GgufText(token);
    types += Le<int32_t>(6);
  }
  if (sentence_piece) {
    tokens += GgufText(blank) + GgufText(blank + "a");
    types += Le<int32_t>(1) + Le<int32_t>(1);
    count += 2;
  }
  for (uint64_t id = 0; id < count; ++id) scores += Le<float>(-static_cast<float>(id));
  parts.Set("tokenizer.ggml.tokens", ArrayOf(8, count, tokens));
  parts.Set("tokenizer.ggml.token_type", ArrayOf(5, count, types));
  if (sentence_piece) parts.Set("tokenizer.ggml.scores", ArrayOf(6, count, scores));
  if (!sentence_piece) parts.Set("tokenizer.ggml.merges", ArrayOf(8, 1, GgufText("a b")));
  parts.Set("tokenizer.ggml.bos_token_id", test::U32(1));
  parts.Set("tokenizer.ggml.eos_token_id", test::U32(2));
  return parts;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(const std::string& bytes) {
  static const test::TempFolder& folder = *new test::TempFolder();
  const auto file = GgufFile::Open(folder.Write("damaged.gguf", bytes));
  if (!file.ok()) return file.status();
  return LoadTokenizerGguf(**file);
}

// Files that hold nothing but a vocabulary.
TEST(HostileBpeTest, GgufVocabularies) {
  auto t = FromGguf(Gguf(/*sentence_piece=*/true).Encode());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("ab <t>", false).ids, (Ids{263, 5, 263, 6}));
  EXPECT_TRUE((*t)->adds_bos());
  EXPECT_EQ((*t)->bos_id(), 1);
  ExpectDamagedSound(Gguf(true).Encode(), 5, FromGguf);
  t = FromGguf(Gguf(/*sentence_piece=*/false).Encode());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("ab<t>a", false).ids, (Ids{5, 6, 3}));
  EXPECT_TRUE((*t)->adds_bos()) << "llama-bpe begins a sequence unless the file says otherwise";
  ExpectDamagedSound(Gguf(false).Encode(), 6, FromGguf);
}

TEST(HostileBpeTest, DamagedPartsAreRefusedByName) {
  struct Case {
    absl::StatusCode code;
    const char* named;
    const char* why;
    void (*apply)(json&);
  };
  const Case table[] = {
      {kInvalid, "pattern does not compile", "at byte",
       [](json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; }},
      {kInvalid, "'pre_tokenizer.pattern'", "empty",
       [](json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = ""; }},
      {kUnsupported, "'pre_tokenizer.behavior'", "Sideways",
       [](json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Sideways"; }},
      {kUnsupported, "'pre_tokenizer'", "Punctuation",
       [](json& j) { j["pre_tokenizer"]["pretokenizers"][1]["type"] = "Punctuation"; }},
      {kUnsupported, "'normalizer'", "Precompiled",
       [](json& j) { j["normalizer"]["type"] = "Precompiled"; }},
      {kUnsupported, "'decoder'", "CTC", [](json& j) { j["decoder"]["type"] = "CTC"; }},
      {kInvalid, "'model.unk_token'", "not a token",
       [](json& j) { j["model"]["unk_token"] = "<unk>"; }},
  };
  for (const Case& one : table) {
    json root = test::ByteBpeJson();
    one.apply(root);
    SCOPED_TRACE(std::string(one.named) + " " + one.why);
    test::ExpectRefused(FromJson(root.dump()).status(), one.code, "tokenizer.json", one.named,
                        one.why);
  }
}

}  // namespace
}  // namespace lectern
