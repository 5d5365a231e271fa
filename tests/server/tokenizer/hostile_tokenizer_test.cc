// spiece.model, vocab.txt and tokenizer.json of type Unigram and WordPiece: read, and damaged in
// one place each, at random, and beyond every limit.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "base/status_macros.h"
#include "server/formats/format_limits.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/tokenizer_limits.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/tokenizer/tokenizer_file_parts.h"

namespace lectern {
namespace {

using nlohmann::json;
using test::BytesField;
using test::FloatField;
using test::NumberField;
using test::SpieceModel;
using test::SpiecePiece;
using test::Varint;
using Ids = std::vector<int32_t>;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;

absl::StatusOr<std::unique_ptr<Tokenizer>> FromSpiece(const std::string& bytes) {
  LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, ParseSpieceModel(bytes, "spiece.model"));
  return NewUnigram(std::move(config));
}
absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const std::string& text) {
  return NewTokenizerFromJson(text, "tokenizer.json", -1);
}
absl::StatusOr<std::unique_ptr<Tokenizer>> FromVocab(const std::string& text,
                                                     const std::string& settings = "") {
  LECTERN_ASSIGN_OR_RETURN(WordPieceConfig config,
                           ParseVocabTxt(text, "vocab.txt", settings, "tokenizer_config.json"));
  return NewWordPiece(std::move(config));
}

TEST(SpieceModelTest, ReadsEveryField) {
  const auto t = FromSpiece(SpieceModel());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("ab  b", false).ids, (Ids{4, 6, 3, 6}));
  EXPECT_EQ((*t)->eos_id(), 1);
  const auto config = ParseSpieceModel(
      SpieceModel() + BytesField(2, NumberField(35, 1) + BytesField(44, "?")) +
          BytesField(3, NumberField(3, 0) + NumberField(4, 0) + NumberField(5, 0)) +
          NumberField(200, 7) + Varint(201 << 3 | 1) + std::string(8, 'x') + BytesField(4, "?") +
          BytesField(5, BytesField(1, "none")),
      "spiece.model");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->byte_fallback);
  EXPECT_EQ(config->unk_surface, "?");
  EXPECT_FALSE(config->add_dummy_prefix || config->remove_extra_whitespaces ||
               config->escape_whitespaces);
  EXPECT_EQ(config->pieces[4].score, -3);
  EXPECT_EQ(config->pad_id, 0);
}

TEST(SpieceModelTest, DamagedFilesAreRefusedByName) {
  struct Case {
    std::string bytes;
    const char* named;
    const char* why;
    absl::StatusCode code = kInvalid;
  };
  const std::string nan = std::string("\0\0\xc0\x7f", 4);
  const Case table[] = {
      {"", "'pieces'", "there are none"},
      {"{\"model\": 1}", "", "not a SentencePiece model"},
      {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "", "breaks off"},
      {Varint(1 << 3 | 2) + Varint(~uint64_t{0}), "", "breaks off"},
      {Varint(1 << 3 | 2) + Varint(uint64_t{1} << 62) + "abc", "", "breaks off"},
      {Varint(1 << 3 | 3), "", "breaks off"},
      {Varint(0 << 3 | 2), "", "breaks off"},
      {NumberField(1, 3), "'pieces'", "not a message"},
      {NumberField(2, 3), "'trainer_spec'", "not a message"},
      {NumberField(3, 3), "'normalizer_spec'", "not a message"},
      {NumberField(5, 3), "'denormalizer_spec'", "not a message"},
      {SpiecePiece("", 0, 1), "'pieces[0]'", "empty"},
      {SpiecePiece("a", 0, 1) + SpiecePiece("b", 0, 7), "'pieces[1]'", "type 7"},
      {SpiecePiece("b", 0, 0), "'pieces[0]'", "type 0"},
      {SpiecePiece(std::string(kMaxPieceBytes + 1, 'x'), 0, 1), "'pieces[0]'", "longer than 512"},
      {BytesField(1, NumberField(1, 7)), "'pieces[0]'", "wrong type"},
      {BytesField(1, BytesField(1, "a") + BytesField(2, "b")), "'pieces[0]'", "wrong type"},
      {BytesField(1, BytesField(1, "a") + "\x0a\x7f"), "'pieces[0]'", "breaks off"},
      {SpieceModel() + BytesField(2, NumberField(3, 2)), "model_type", "BPE", kUnsupported},
      {SpieceModel() + BytesField(2, NumberField(3, 9)), "model_type", "type 9", kUnsupported},
      {SpieceModel() + BytesField(2, BytesField(3, "")), "model_type", "not a number"},
      {SpieceModel() + BytesField(2, NumberField(24, 1)), "whitespace_as_suffix", "true",
       kUnsupported},
      {SpieceModel() + BytesField(2, NumberField(42, 1 << 30)), "eos_id", "not a token id"},
      {SpieceModel() + BytesField(2, NumberField(43, ~uint64_t{6})), "pad_id", "not a token id"},
      {SpieceModel() + BytesField(2, BytesField(41, "1")), "bos_id", "not a token id"},
      {SpieceModel() + BytesField(2, NumberField(42, 8)), "end token 8", "out of range"},
      {SpieceModel() + BytesField(2, BytesField(44, std::string(513, 'x'))), "unk_surface",
       "not a text of at most"},
      {SpieceModel() + BytesField(2, "\x08"), "'trainer_spec'", "breaks off"},
      {SpieceModel() + BytesField(3, "\x08"), "'normalizer_spec'", "breaks off"},
      {SpieceModel() + BytesField(5, "\x08"), "'denormalizer_spec'", "breaks off"},
      {SpieceModel() + BytesField(5, BytesField(2, "x")), "denormalizer", "map", kUnsupported},
      {SpieceModel() + BytesField(3, BytesField(2, "x")), "charsmap", "breaks off"},
      {SpieceModel() + BytesField(3, NumberField(2, 1)), "precompiled_charsmap", "longer than"},
      {SpieceModel() + BytesField(3, BytesField(2, std::string(kMaxCharsmapBytes + 1, 'x'))),
       "precompiled_charsmap", "longer than"},
      {SpieceModel() + SpiecePiece("a", 0, 1), "piece 8", "repeats piece 5"},
      {SpieceModel() + SpiecePiece("<u>", 0, 2), "unk_id 8", "there are 2"},
      {SpiecePiece("a", 0, 1), "unk_id", "there are 0"},
      {SpieceModel() + SpiecePiece("\xff", 0, 1), "piece 8", "not UTF-8"},
      {SpieceModel() + SpiecePiece("\xed\xa0\x80", 0, 1), "piece 8", "not UTF-8"},
      {SpieceModel() + BytesField(1, BytesField(1, "n") + Varint(2 << 3 | 5) + nan), "piece 8",
       "sensible size"},
      {SpieceModel() + SpiecePiece("i", std::numeric_limits<float>::infinity(), 1), "piece 8",
       "sensible size"},
  };
  for (const Case& one : table) {
    SCOPED_TRACE(std::string(one.named) + " " + one.why);
    test::ExpectRefused(FromSpiece(one.bytes).status(), one.code, "spiece.model", one.named,
                        one.why);
  }
}

TEST(SpieceModelTest, TooManyPiecesTakeLittleMemory) {
  std::string bytes;
  for (size_t i = 0; i <= kMaxPieces; ++i) bytes += BytesField(1, BytesField(1, "a"));
  const int64_t before = test::PeakMemoryKib();
  test::ExpectRefused(FromSpiece(bytes).status(), kInvalid, "spiece.model", "'pieces'",
                      "more than 1048576");
  test::ExpectLittleMemory(before, 160 << 10);
}

// Cutting between two fields leaves a shorter model, which may be valid; anything else is refused.
TEST(SpieceModelTest, CutAtEveryByteAndRandomDamage) {
  const std::string good = SpieceModel();
  for (size_t size = 0; size < good.size(); ++size) {
    const auto t = FromSpiece(good.substr(0, size));
    ASSERT_TRUE(test::IsOkOrRefused(t.status())) << size << t.status();
  }
  std::mt19937 random(20240604);
  for (int round = 0; round < 5000; ++round) {
    const auto t = FromSpiece(test::Damage(good, random, good.size()));
    ASSERT_TRUE(test::IsOkOrRefused(t.status())) << t.status();
    if (t.ok()) (*t)->Decode((*t)->Encode("abba a\xc3\xa9 </s>\xff", true).ids, false);
  }
}

struct Mutation {
  absl::StatusCode code;
  const char* named;
  const char* why;
  std::function<void(json&)> apply;
};

void ExpectMutationsRefused(const json& good, const std::vector<Mutation>& mutations) {
  for (const Mutation& mutation : mutations) {
    json root = good;
    mutation.apply(root);
    SCOPED_TRACE(std::string(mutation.named) + " " + mutation.why);
    test::ExpectRefused(FromJson(root.dump()).status(), mutation.code, "tokenizer.json",
                        mutation.named, mutation.why);
  }
}

TEST(UnigramJsonTest, ReadsTheFastTokenizersOfT5) {
  json root = test::UnigramJson();
  auto t = FromJson(root.dump());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("A  ab ", false).ids, (Ids{4, 4, 6}));
  EXPECT_EQ((*t)->Encode("a<extra_id_0></s>", true).ids, (Ids{4, 8, 1}));
  EXPECT_EQ((*t)->eos_id(), 1);
  EXPECT_EQ((*t)->vocab_size(), 9);
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "WhitespaceSplit"},
      {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}]})");
  t = FromJson(root.dump());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("a\n\tb", false).ids, (Ids{4, 3, 6}));
}

TEST(UnigramJsonTest, DamagedFilesAreRefusedByName) {
  ExpectMutationsRefused(
      test::UnigramJson(),
      {{kUnsupported, "'normalizer'", "NFC",
        [](json& j) { j["normalizer"]["normalizers"][0]["type"] = "NFC"; }},
       {kUnsupported, "'normalizer'", "Sequence",
        [](json& j) { j["normalizer"]["normalizers"][0] = j["normalizer"]; }},
       {kInvalid, "'normalizer.normalizers'", "array",
        [](json& j) { j["normalizer"]["normalizers"] = 3; }},
       {kInvalid, "'normalizer'", "more than 16",
        [](json& j) {
          j["normalizer"]["normalizers"] = json::array();
          for (size_t i = 0; i <= kMaxNormalizerSteps; ++i) {
            j["normalizer"]["normalizers"].push_back({{"type", "Lowercase"}});
          }
        }},
       {kUnsupported, "'normalizer.pattern'", "x+",
        [](json& j) { j["normalizer"]["normalizers"][2]["pattern"]["Regex"] = "x+"; }},
       {kInvalid, "'normalizer.pattern'", "lacks",
        [](json& j) { j["normalizer"]["normalizers"][2].erase("content"); }},
       {kInvalid, "normalizers make", "8 times",
        [](json& j) { j["normalizer"]["normalizers"][2]["content"] = std::string(20, 'x'); }},
       {kInvalid, "precompiled_charsmap", "base64",
        [](json& j) {
          j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "***"}};
        }},
       {kInvalid, "precompiled_charsmap", "not a string",
        [](json& j) {
          j["normalizer"] = {{"type", "Precompiled"}};
        }},
       {kInvalid, "precompiled_charsmap", "longer than",
        [](json& j) {
          j["normalizer"] = {{"type", "Precompiled"},
                             {"precompiled_charsmap", std::string(6 << 20, 'A')}};
        }},
       {kInvalid, "charsmap", "a trie of",
        [](json& j) {
          j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAAAAAA"}};
        }},
       {kUnsupported, "'pre_tokenizer'", "none", [](json& j) { j.erase("pre_tokenizer"); }},
       {kUnsupported, "'pre_tokenizer'", "Digits",
        [](json& j) { j["pre_tokenizer"]["type"] = "Digits"; }},
       {kUnsupported, "'pre_tokenizer'", "Sequence",
        [](json& j) {
          j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", json::array()}};
        }},
       {kUnsupported, "'pre_tokenizer.replacement'", "_",
        [](json& j) { j["pre_tokenizer"]["replacement"] = "_"; }},
       {kUnsupported, "'pre_tokenizer.prepend_scheme'", "last",
        [](json& j) { j["pre_tokenizer"]["prepend_scheme"] = "last"; }},
       {kUnsupported, "'post_processor'", "Roberta",
        [](json& j) { j["post_processor"]["type"] = "Roberta"; }},
       {kUnsupported, "'decoder'", "Fuse", [](json& j) { j["decoder"]["type"] = "Fuse"; }},
       {kInvalid, "'model.vocab'", "array", [](json& j) { j["model"]["vocab"] = json::object(); }},
       {kInvalid, "'model.vocab'", "0 pieces",
        [](json& j) { j["model"]["vocab"] = json::array(); }},
       {kInvalid, "'model.vocab'", "entry 5", [](json& j) { j["model"]["vocab"][5] = "a"; }},
       {kInvalid, "'model.vocab'", "entry 5", [](json& j) { j["model"]["vocab"][5][1] = "a"; }},
       {kInvalid, "'model.vocab'", "entry 5", [](json& j) { j["model"]["vocab"][5].push_back(1); }},
       {kInvalid, "'model.unk_id'", "missing", [](json& j) { j["model"]["unk_id"] = nullptr; }},
       {kInvalid, "'model.unk_id'", "not the id of a piece",
        [](json& j) { j["model"]["unk_id"] = 8; }},
       {kInvalid, "'model.unk_id'", "not the id of a piece",
        [](json& j) { j["model"]["unk_id"] = -1; }},
       {kInvalid, "piece 6", "repeats", [](json& j) { j["model"]["vocab"][6][0] = "a"; }},
       {kInvalid, "piece 6", "sensible", [](json& j) { j["model"]["vocab"][6][1] = 1e300; }},
       {kInvalid, "not every byte", "", [](json& j) { j["model"]["byte_fallback"] = true; }},
       {kInvalid, "'added_tokens'", "valid id",
        [](json& j) { j["added_tokens"][3]["id"] = 1ll << 40; }},
       {kInvalid, "added token 70000", "range",
        [](json& j) { j["added_tokens"][3]["id"] = 70'000; }},
       {kInvalid, "id 5", "two tokens", [](json& j) { j["added_tokens"][3]["id"] = 5; }},
       {kUnsupported, "'model.type'", "WordLevel", [](json& j) {
          j["normalizer"] = nullptr;
          j["post_processor"] = nullptr;
          j["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
          j["model"]["type"] = "WordLevel";
        }}});
}

TEST(WordPieceJsonTest, ReadsAndRefuses) {
  const json good = test::WordPieceJson();
  const auto t = FromJson(good.dump());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("AB ba c", false).ids, (Ids{1, 2, 3, 4, 0}));
  EXPECT_EQ((*t)->Encode("a[SEP]", true).ids, (Ids{1, 5}));
  ExpectMutationsRefused(
      good,
      {{kUnsupported, "'normalizer'", "none", [](json& j) { j.erase("normalizer"); }},
       {kUnsupported, "'pre_tokenizer'", "Split",
        [](json& j) { j["pre_tokenizer"]["type"] = "Split"; }},
       {kUnsupported, "'post_processor'", "ByteLevel",
        [](json& j) { j["post_processor"]["type"] = "ByteLevel"; }},
       {kUnsupported, "'decoder'", "Fuse", [](json& j) { j["decoder"]["type"] = "Fuse"; }},
       {kInvalid, "'model.vocab'", "object", [](json& j) { j["model"]["vocab"] = json::array(); }},
       {kInvalid, "'model.vocab'", "in range", [](json& j) { j["model"]["vocab"]["a"] = -1; }},
       {kInvalid, "'model.vocab'", "gaps", [](json& j) { j["model"]["vocab"]["a"] = 2'000'000; }},
       {kInvalid, "'model.vocab'", "two tokens", [](json& j) { j["model"]["vocab"]["a"] = 3; }},
       {kInvalid, "'model.unk_token'", "not in", [](json& j) { j["model"]["vocab"].clear(); }},
       {kInvalid, "'model.unk_token'", "not in", [](json& j) { j["model"]["unk_token"] = "?"; }},
       {kInvalid, "'model.max_input_chars_per_word'", "not a valid number",
        [](json& j) { j["model"]["max_input_chars_per_word"] = "x"; }},
       {kInvalid, "1001 characters", "",
        [](json& j) { j["model"]["max_input_chars_per_word"] = kMaxWordChars + 1; }},
       {kInvalid, "prefix", "empty", [](json& j) { j["model"]["continuing_subword_prefix"] = ""; }},
       {kUnsupported, "'added_tokens'", "not special",
        [](json& j) { j["added_tokens"][1]["special"] = false; }}});
}

TEST(TokenizerJsonKindsTest, CutsLoneSurrogatesAndRandomDamage) {
  std::mt19937 random(6);
  for (const json& root : {test::UnigramJson(), test::WordPieceJson()}) {
    const std::string good = root.dump();
    for (size_t n = 0; n < good.size(); n += 3) {
      test::ExpectRefused(FromJson(good.substr(0, n)).status(), kInvalid, "tokenizer.json", "JSON",
                          "");
    }
    for (int round = 0; round < 2500; ++round) {
      const auto t = FromJson(test::Damage(good, random, good.size()));
      ASSERT_TRUE(test::IsOkOrRefused(t.status())) << t.status();
      if (t.ok()) (*t)->Decode((*t)->Encode("abba a\xc3\xa9 </s>\xff", true).ids, false);
    }
  }
  std::string text = test::UnigramJson().dump();
  text.replace(text.find("\"ab\""), 4, "\"\\ud800\"");
  test::ExpectRefused(FromJson(text).status(), kInvalid, "tokenizer.json", "JSON", "malformed");
}

// The largest vocabularies there are fit into the limits of JSON.
TEST(TokenizerJsonKindsTest, AVocabularyOf250000Pieces) {
  json root = test::UnigramJson();
  for (int i = 0; i < 250'000; ++i) {
    root["model"]["vocab"].push_back({"p" + std::to_string(i), -10.5});
  }
  root["added_tokens"].erase(3);
  const auto t = FromJson(root.dump());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("ap249999", false).ids, (Ids{4, 8 + 249'999}));
}

TEST(VocabTxtTest, ReadsLinesAndSettings) {
  const std::string good = "[PAD]\r\n[UNK]\r\n[SEP]\na\n##b\nB\n\n\n";
  auto t = FromVocab(good);
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->vocab_size(), 6);
  EXPECT_EQ((*t)->Encode("AB b", false).ids, (Ids{3, 4, 1}));
  EXPECT_EQ((*t)->Encode("a[SEP]", true).ids, (Ids{3, 2}));
  t = FromVocab(good, R"({"do_lower_case": false, "tokenizer_class": "BertTokenizerFast",
                          "unk_token": {"content": "[PAD]"}})");
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->Encode("B x", false).ids, (Ids{5, 0}));
}

TEST(VocabTxtTest, DamagedFilesAreRefusedByName) {
  const std::string good = "[UNK]\na\n";
  const auto expect = [](const std::string& text, const std::string& named, const std::string& why,
                         const std::string& settings = "", const std::string& file = "vocab.txt",
                         absl::StatusCode code = kInvalid) {
    SCOPED_TRACE(named + " " + why);
    test::ExpectRefused(FromVocab(text, settings).status(), code, file, named, why);
  };
  expect("", "no token", "unknown words");
  expect("\n\n", "no token", "unknown words");
  expect("a\nb\n", "no token", "unknown words");
  expect(good + "a\n", "token 2", "repeats token 1");
  expect(good + "\xff\n", "token 2", "not UTF-8");
  expect(good + std::string(kMaxPieceBytes + 1, 'x'), "line '3'", "more than 512");
  std::string many = good;
  for (size_t i = 0; i < kMaxPieces; ++i) many += "\n";
  expect(many, "line '1048577'", "1048576 lines");
  const std::string config = "tokenizer_config.json";
  expect(good, "JSON", "", "{", config);
  expect(good, "'do_lower_case'", "boolean", R"({"do_lower_case": "yes"})", config);
  expect(good, "'strip_accents'", "boolean", R"({"strip_accents": 1})", config);
  expect(good, "'do_basic_tokenize'", "false", R"({"do_basic_tokenize": false})", config,
         kUnsupported);
  expect(good, "'tokenizer_class'", "BertJapaneseTokenizer",
         R"({"tokenizer_class": "BertJapaneseTokenizer"})", config, kUnsupported);
}

TEST(VocabTxtTest, RandomDamageNeverCrashes) {
  std::mt19937 random(7);
  const std::string good = "[PAD]\n[UNK]\n[SEP]\na\n##b\nab\n";
  for (int round = 0; round < 2000; ++round) {
    const auto t = FromVocab(test::Damage(good, random, good.size()));
    ASSERT_TRUE(test::IsOkOrRefused(t.status())) << t.status();
    if (t.ok()) (*t)->Decode((*t)->Encode("abba a\xc3\xa9 [SEP]\xff", true).ids, false);
  }
}

}  // namespace
}  // namespace lectern
