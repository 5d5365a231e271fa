// Vocabularies of model files: tokenizer.json and the metadata of a GGUF, sound and damaged.
#include "server/tokenizer/files/tokenizer_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "server/tokenizer/bpe/byte_alphabet.h"
#include "server/tokenizer/bpe/pre_tokenize.h"
#include "server/tokenizer/files/gguf_splits.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;
using test::ArrayOf;
using test::GgufParts;
using test::GgufText;
using test::I32;
using test::Le;
using test::Text;
using test::U32;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;

// All bytes, "ab", "abc" and a special token.
json SmallJson() {
  json root = json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
    "added_tokens": [{"id": 258, "content": "<|end|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {}, "merges": ["a b", "ab c"]}})");
  for (int byte = 0; byte < 256; ++byte) root["model"]["vocab"][ByteAlphabet()[byte]] = byte;
  root["model"]["vocab"]["ab"] = 256;
  root["model"]["vocab"]["abc"] = 257;
  return root;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Build(const std::string& contents, int32_t eos = 258) {
  LECTERN_ASSIGN_OR_RETURN(BpeConfig config, ParseTokenizerJson(contents, "small.json", eos));
  return NewBpe(std::move(config));
}

TEST(TokenizerJsonTest, MergesInEitherSpelling) {
  json root = SmallJson();
  for (const char* merges : {R"(["a b", "ab c"])", R"([["a", "b"], ["ab", "c"]])"}) {
    root["model"]["merges"] = json::parse(merges);
    const auto tokenizer = Build(root.dump());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->Encode("abcab", false).ids, (std::vector<int32_t>{257, 256}));
    EXPECT_EQ((*tokenizer)->Encode("a<|end|>", true).ids, (std::vector<int32_t>{'a', 258}));
    EXPECT_TRUE((*tokenizer)->IsSpecial(258));
    EXPECT_EQ((*tokenizer)->eos_id(), 258);
  }
}

TEST(TokenizerJsonTest, PreTokenizersAreTold) {
  json root = SmallJson();
  const auto kind = [&] {
    const auto config = ParseTokenizerJson(root.dump(), "small.json", -1);
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->splits : std::vector<SplitRule>();
  };
  EXPECT_EQ(kind(), std::vector<SplitRule>{Gpt2Words()});
  root["post_processor"] = {{"type", "RobertaProcessing"}, {"trim_offsets", true}};
  EXPECT_EQ(kind(), std::vector<SplitRule>{Gpt2Words()});
  root["post_processor"] = {{"type", "ByteLevel"}, {"trim_offsets", false}};
  root["pre_tokenizer"]["use_regex"] = false;
  EXPECT_EQ(kind(), std::vector<SplitRule>{});
  root["pre_tokenizer"] = json::parse(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": true},
    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]})");
  EXPECT_EQ(kind(), (std::vector<SplitRule>{SingleDigits(), Gpt2Words()}));
}

struct Mutation {
  absl::StatusCode code;
  const char* named;  // in the message
  const char* why;    // also in the message
  std::function<void(json&)> apply;
};

TEST(TokenizerJsonTest, DamagedFilesAreRefusedByName) {
  const std::vector<Mutation> mutations = {
      {kUnsupported, "'normalizer'", "BertNormalizer",
       [](json& j) {
         j["normalizer"] = {{"type", "BertNormalizer"}};
       }},
      {kUnsupported, "'normalizer.pattern'", "String",
       [](json& j) {
         j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}};
       }},
      {kInvalid, "'pre_tokenizer.pattern'", "missing",
       [](json& j) { j["pre_tokenizer"]["type"] = "Split"; }},
      {kInvalid, "tokenizer", "pattern does not compile",
       [](json& j) {
         j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}};
       }},
      {kUnsupported, "'pre_tokenizer.behavior'", "Shredded",
       [](json& j) {
         j["pre_tokenizer"] = {
             {"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Shredded"}};
       }},
      {kUnsupported, "'pre_tokenizer'", "none", [](json& j) { j["pre_tokenizer"] = 7; }},
      {kUnsupported, "'post_processor'", "Template",
       [](json& j) {
         j["post_processor"] = {{"type", "Template"}};
       }},
      {kUnsupported, "'decoder'", "CTC", [](json& j) { j["decoder"]["type"] = "CTC"; }},
      {kInvalid, "'model.unk_token'", "not a token",
       [](json& j) { j["model"]["unk_token"] = "<unk>"; }},
      {kUnsupported, "'model.type'", "Unigram", [](json& j) { j["model"]["type"] = "Unigram"; }},
      {kUnsupported, "'model.end_of_word_suffix'", "empty",
       [](json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
      {kUnsupported, "'model.dropout'", "0", [](json& j) { j["model"]["dropout"] = 0.1; }},
      {kInvalid, "'model'", "missing", [](json& j) { j.erase("model"); }},
      {kInvalid, "'model.vocab'", "not an object", [](json& j) { j["model"] = json::array(); }},
      {kInvalid, "'model.vocab'", "not an object", [](json& j) { j["model"]["vocab"] = "x"; }},
      {kInvalid, "'model.vocab'", "not an integer",
       [](json& j) { j["model"]["vocab"]["a"] = "1"; }},
      {kInvalid, "'model.vocab'", "in range", [](json& j) { j["model"]["vocab"]["a"] = -1; }},
      {kInvalid, "'model.vocab'", "integer", [](json& j) { j["model"]["vocab"]["a"] = 1.5; }},
      {kInvalid, "'model.vocab'", "gaps", [](json& j) { j["model"]["vocab"]["a"] = 4'000'000; }},
      {kInvalid, "'model.vocab'", "in range",
       [](json& j) { j["model"]["vocab"]["a"] = ~uint64_t{0}; }},
      {kInvalid, "'model.vocab'", "two tokens", [](json& j) { j["model"]["vocab"]["a"] = 98; }},
      {kInvalid, "'model.merges'", "not an array", [](json& j) { j["model"].erase("merges"); }},
      {kInvalid, "'model.merges'", "neither", [](json& j) { j["model"]["merges"][0] = 1; }},
      {kInvalid, "'model.merges'", "neither",
       [](json& j) {
         j["model"]["merges"][0] = {"a", "b", "c"};
       }},
      {kInvalid, "merge 1", "does not have", [](json& j) { j["model"]["merges"][1] = "ab zz"; }},
      {kInvalid, "'model.merges'", "space", [](json& j) { j["model"]["merges"][0] = ""; }},
      {kInvalid, "'added_tokens'", "not an array", [](json& j) { j["added_tokens"] = 3; }},
      {kInvalid, "'added_tokens'", "lacks", [](json& j) { j["added_tokens"][0] = "x"; }},
      {kInvalid, "'added_tokens'", "lacks",
       [](json& j) { j["added_tokens"][0]["id"] = 1'000'000; }},
      {kInvalid, "'added_tokens'", "two tokens", [](json& j) { j["added_tokens"][0]["id"] = 3; }},
  };
  for (const Mutation& mutation : mutations) {
    json root = SmallJson();
    mutation.apply(root);
    SCOPED_TRACE(std::string(mutation.named) + " " + mutation.why);
    test::ExpectRefused(Build(root.dump()).status(), mutation.code, "small.json", mutation.named,
                        mutation.why);
  }
  test::ExpectRefused(Build(SmallJson().dump(), 259).status(), kInvalid, "small.json", "end token",
                      "out of range");
}

TEST(TokenizerJsonTest, HostileTextsAreRefused) {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("null"), std::string("{\"a\":1,\"a\":2}"),
        std::string(1 << 20, '['), "{\"model\":" + std::string(100'000, '{'),
        std::string("{\"a\":\"\xff\"}"), std::string("{}\0{}", 5), std::string("\xef\xbb\xbf")}) {
    test::ExpectRefused(Build(text).status(), kInvalid, "small.json", "JSON", "");
  }
}

TEST(TokenizerJsonTest, CutsAndRandomDamageNeverCrash) {
  const std::string good = SmallJson().dump();
  for (size_t n = 0; n < good.size(); n += 7) {
    EXPECT_FALSE(Build(good.substr(0, n)).ok()) << n;
  }
  std::mt19937 random(4);
  for (int round = 0; round < 1500; ++round) {
    const auto tokenizer = Build(test::Damage(good, random, good.size()));
    ASSERT_TRUE(test::IsOkOrRefused(tokenizer.status())) << tokenizer.status();
    if (tokenizer.ok()) (*tokenizer)->Encode("abc <|end|> 12\xff", true);
  }
}

// golden/llama_tiny: a token's id is its byte's value, but for 0, which ends answers.
TEST(LlamaTinyTokenizerTest, IdsAreBytesInEveryFormat) {
  const std::filesystem::path folder = test::GoldenDir() / "llama_tiny";
  for (const char* name : {"tied", "untied", "untied_sharded"}) {
    const std::filesystem::path file = folder / name / "tokenizer.json";
    if (!std::filesystem::exists(file.parent_path())) continue;  // left out of a trimmed set
    std::stringstream contents;
    contents << std::ifstream(file).rdbuf();
    const auto tokenizer = Build(contents.str(), 0);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->vocab_size(), 256);
    std::string text = "Any text, \xc3\xa9 \xf0\x9f\x98\x80 12\n";
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    EXPECT_EQ((*tokenizer)->Encode(text, false).ids, ids);
    EXPECT_EQ((*tokenizer)->Decode(ids, true), text);
    EXPECT_EQ((*tokenizer)->Encode("a<|end|>", true).ids, (std::vector<int32_t>{'a', 0}));
    // Byte 0 has no token, and so no range.
    const Encoding e = (*tokenizer)->Encode(std::string("a\0b", 3), false);
    EXPECT_EQ(e.ids, (std::vector<int32_t>{'a', 'b'}));
    EXPECT_EQ(e.begin, (std::vector<uint32_t>{0, 2}));
    EXPECT_EQ(e.end, (std::vector<uint32_t>{1, 3}));
  }
  LECTERN_REQUIRE_FILE(std::filesystem::exists(folder / "tied" / "tokenizer.json"), folder);
}

GgufParts SmallGguf() {
  GgufParts parts = test::LlamaGguf();
  parts.Set("tokenizer.ggml.model", Text("gpt2"));
  parts.Set("tokenizer.ggml.pre", Text("smollm"));
  parts.Set("tokenizer.ggml.tokens",
            ArrayOf(8, 4, GgufText("a") + GgufText("b") + GgufText("ab") + GgufText("<|end|>")));
  parts.Set("tokenizer.ggml.merges", ArrayOf(8, 1, GgufText("a b")));
  parts.Set("tokenizer.ggml.token_type",
            ArrayOf(5, 4, Le<int32_t>(1) + Le<int32_t>(1) + Le<int32_t>(1) + Le<int32_t>(3)));
  parts.Set("tokenizer.ggml.eos_token_id", U32(3));
  return parts;
}

absl::StatusOr<BpeConfig> ReadGguf(const test::TempFolder& folder, const GgufParts& parts) {
  LECTERN_ASSIGN_OR_RETURN(const auto file,
                           GgufFile::Open(folder.Write("small.gguf", parts.Encode())));
  return ReadGgufTokenizer(*file);
}

TEST(GgufTokenizerTest, ReadsEveryKey) {
  const test::TempFolder folder;
  GgufParts parts = SmallGguf();
  const auto config = ReadGguf(folder, parts);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->tokens, (std::vector<std::string>{"a", "b", "ab", "<|end|>"}));
  ASSERT_EQ(config->merges.size(), 1u);
  EXPECT_EQ(config->merges[0].left, "a");
  EXPECT_EQ(config->merges[0].right, "b");
  ASSERT_EQ(config->added.size(), 1u);
  EXPECT_EQ(config->added[0].text, "<|end|>");
  EXPECT_EQ(config->added[0].id, 3);
  EXPECT_TRUE(config->added[0].special);
  EXPECT_EQ(config->eos_id, 3);
  EXPECT_EQ(config->splits, (std::vector<SplitRule>{SingleDigits(), Gpt2Words()}));
  parts.Set("tokenizer.ggml.pre", Text("gpt-2"));
  EXPECT_EQ(ReadGguf(folder, parts)->splits, std::vector<SplitRule>{Gpt2Words()});
  // A token that the user defined is found in every text.
  parts.Set("tokenizer.ggml.token_type",
            ArrayOf(5, 4, Le<int32_t>(1) + Le<int32_t>(1) + Le<int32_t>(1) + Le<int32_t>(4)));
  EXPECT_FALSE(ReadGguf(folder, parts)->added.at(0).special);
}

std::vector<std::string> PiecesOf(const std::string& text, const std::string& pre_tokenizer) {
  const auto cut = PreTokenize::Create(FindGgufPreTokenizer(pre_tokenizer)->splits);
  EXPECT_TRUE(cut.ok()) << pre_tokenizer << ": " << cut.status();
  std::vector<std::string> pieces;
  if (!cut.ok()) return pieces;
  cut->Cut(text,
           [&](size_t begin, size_t end) { pieces.push_back(text.substr(begin, end - begin)); });
  return pieces;
}

TEST(GgufTokenizerTest, EveryNamedPreTokenizerCutsAndLosesNothing) {
  const std::string text = "Ab 12\xe4\xb8\xadx, y\n";  // a Chinese character after the number
  const std::vector<std::string> names =
      absl::StrSplit(GgufPreTokenizerNames(), ", ", absl::SkipEmpty());
  ASSERT_GT(names.size(), 30u);
  for (const std::string& name : names) {
    const std::vector<std::string> pieces = PiecesOf(text, name);
    EXPECT_GT(pieces.size(), 4u) << name;
    EXPECT_EQ(absl::StrJoin(pieces, ""), text) << name;
  }
  EXPECT_EQ(PiecesOf(text, "deepseek-llm"),
            (std::vector<std::string>{"Ab", " ", "12", "\xe4\xb8\xad", "x", ",", " y", "\n"}));
}

TEST(GgufTokenizerTest, DamagedMetadataIsRefusedByName) {
  const test::TempFolder folder;
  const std::string prefix = "tokenizer.ggml.";
  const auto expect = [&](absl::StatusCode code, const std::string& key, const std::string& why,
                          const std::string& value) {
    SCOPED_TRACE(key + " " + why);
    GgufParts parts = SmallGguf();
    value.empty() ? parts.Drop(prefix + key) : parts.Set(prefix + key, value);
    test::ExpectRefused(ReadGguf(folder, parts).status(), code, folder.path("small.gguf"),
                        prefix + key, why);
  };
  expect(kUnsupported, "model", "t5", Text("t5"));

  expect(kInvalid, "model", "", "");
  expect(kUnsupported, "pre", "nonesuch", Text("nonesuch"));
  expect(kUnsupported, "pre", "\\x1b", Text("\x1b[31m"));
  expect(kInvalid, "tokens", "missing", "");
  expect(kInvalid, "tokens", "the wrong type", U32(1));
  expect(kInvalid, "merges", "the wrong type", ArrayOf(5, 1, Le<int32_t>(1)));
  expect(kInvalid, "token_type", "missing", "");
  expect(kInvalid, "token_type", "1 entries for 4", ArrayOf(5, 1, Le<int32_t>(1)));
  expect(kInvalid, "eos_token_id", "4 is not a token", U32(4));
}

}  // namespace
}  // namespace lectern
