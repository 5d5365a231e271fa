// The tokeniser on a small vocabulary: properties, odd input, damaged vocabularies, threads.
#include "server/tokenizer/bpe/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <thread>

#include "base/utf8.h"
#include "server/tokenizer/bpe/byte_alphabet.h"

namespace lectern {
namespace {

// All bytes, "ab", "abab", "er", " the", and two special tokens.
BpeConfig SmallConfig() {
  BpeConfig config;
  config.source = "small.json";
  for (const std::string& byte : ByteAlphabet()) config.tokens.push_back(byte);
  const std::string space = ByteAlphabet()[' '];
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"a", "b"}, {"ab", "ab"}, {"e", "r"}, {space, "t"}, {"h", "e"}, {space + "t", "he"}}) {
    config.tokens.push_back(left + right);
    config.merges.push_back({left, right});
  }
  config.tokens.push_back("<|end|>");
  config.tokens.push_back("<|endless|>");
  const int32_t n = static_cast<int32_t>(config.tokens.size());
  config.added = {{.text = "<|end|>", .id = n - 2}, {.text = "<|endless|>", .id = n - 1}};
  config.splits = {Gpt2Words()};
  config.eos_id = n - 2;
  return config;
}

std::unique_ptr<Tokenizer> Small() {
  auto tokenizer = NewBpe(SmallConfig());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::string RandomText(std::mt19937& random) {
  static const std::string kPieces[] = {
      "ab", "the ", "er", " ", "\n", "7", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
      "x",  "'s",   "..."};
  std::string text;
  for (int n = random() % 40; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
  return text;
}

TEST(BpeTest, MergesByRank) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->Encode("abab", false).ids, std::vector<int32_t>{257});
  EXPECT_EQ(tokenizer->Encode("ababab", false).ids, (std::vector<int32_t>{257, 256}));
  EXPECT_EQ(tokenizer->Encode("a the", false).ids, (std::vector<int32_t>{'a', 261}));
}

TEST(BpeTest, DecodingIsTheInverseAndRangesCoverTheText) {
  const auto tokenizer = Small();
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const std::string text = RandomText(random);
    const Encoding e = tokenizer->Encode(text, false);
    EXPECT_EQ(tokenizer->Decode(e.ids, false), text);
    uint32_t at = 0;
    for (size_t i = 0; i < e.ids.size(); ++i) {
      EXPECT_EQ(e.begin[i], at);
      at = e.end[i];
    }
    EXPECT_EQ(at, text.size());
  }
}

TEST(BpeTest, StreamingGivesTheSameTextInWholeCharacters) {
  const auto tokenizer = Small();
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = RandomText(random);
    for (int n = random() % 3; n > 0 && !bytes.empty(); --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    std::vector<int32_t> ids;
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
    const auto decoder = tokenizer->NewStreamDecoder();
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = decoder->Append(id);
      EXPECT_TRUE(IsValidUtf8(piece));
      streamed += piece;
    }
    streamed += decoder->Finish();
    EXPECT_EQ(streamed, tokenizer->Decode(ids, true));
  }
}

TEST(BpeTest, AnyBytesAreTokenised) {
  const auto tokenizer = Small();
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::string bytes(random() % 60, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const Encoding e = tokenizer->Encode(bytes, round % 2 == 0);
    EXPECT_EQ(tokenizer->Decode(e.ids, false), ReplaceInvalidUtf8(bytes));
    for (size_t i = 0; i < e.ids.size(); ++i) {
      EXPECT_LE(e.begin[i], e.end[i]);
      EXPECT_LE(e.end[i], bytes.size());
    }
  }
}

TEST(BpeTest, SpecialTokensCountOnlyWhenAskedFor) {
  const auto tokenizer = Small();
  const int32_t end = tokenizer->eos_id();
  EXPECT_EQ(tokenizer->Encode("<|end|>", true).ids, std::vector<int32_t>{end});
  EXPECT_GT(tokenizer->Encode("<|end|>", false).ids.size(), 1u);
  EXPECT_EQ(tokenizer->Encode("x<|endless|><|end|>y", true).ids,
            (std::vector<int32_t>{'x', end + 1, end, 'y'}));
  EXPECT_EQ(tokenizer->Decode({'x', end, 'y'}, true), "xy");
  EXPECT_EQ(tokenizer->Decode({'x', end, 'y'}, false), "x<|end|>y");
}

// Characters of SentencePiece: blanks are U+2581, bytes are the fallback, and scores rank the
// merges.
TEST(BpeTest, CharactersMergeByScore) {
  const std::string blank = "\xe2\x96\x81";
  BpeConfig config{.alphabet = BpeConfig::Alphabet::kCharacters};
  config.source = "small.model";
  config.tokens = {"<unk>", "<s>"};
  config.scores = {0, 0};
  config.unmerged = {0, 1};
  config.added = {{.text = "<s>", .id = 1}};
  for (int byte = 0; byte < 256; ++byte) {
    char text[7];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    config.unmerged.push_back(static_cast<int32_t>(config.tokens.size()));
    config.tokens.push_back(text);
    config.scores.push_back(0);
  }
  const auto first = static_cast<int32_t>(config.tokens.size());
  for (const std::string& token : {blank, std::string("a"), std::string("b"), std::string("ab"),
                                   std::string("ba"), blank + "ab"}) {
    config.scores.push_back(-static_cast<double>(config.tokens.size()));
    config.tokens.push_back(token);
  }
  config.byte_fallback = true;
  config.unk_id = 0;
  config.fuse_unk = true;
  config.steps = {{TextStep::Kind::kPrepend, blank}, {TextStep::Kind::kReplace, " ", blank}};
  config.strip_first_space = true;
  auto made = NewBpe(config);
  ASSERT_TRUE(made.ok()) << made.status();
  const Tokenizer& tokenizer = **made;
  const auto ids = [&](const std::string& text) { return tokenizer.Encode(text, true).ids; };
  EXPECT_EQ(ids("ab"), (std::vector<int32_t>{first + 5}));
  EXPECT_EQ(ids("aba"), (std::vector<int32_t>{first + 5, first + 1}));
  EXPECT_EQ(ids("<s>ab"), (std::vector<int32_t>{1, first + 5}));
  EXPECT_EQ(ids("\xc3\xa9"), (std::vector<int32_t>{first, 2 + 0xc3, 2 + 0xa9}));
  EXPECT_EQ(tokenizer.Decode(ids("ab \xc3\xa9"), true), "ab \xc3\xa9");
  EXPECT_EQ(tokenizer.Decode(ids(" ab"), true), " ab");
  config.byte_fallback = false;
  EXPECT_EQ((*NewBpe(config))->Encode("a\xc3\xa9x", false).ids,
            (std::vector<int32_t>{first, first + 1, 0}));
}

TEST(BpeTest, ASymbolWithoutATokenIsDroppedBeforeMerging) {
  BpeConfig config = SmallConfig();
  config.tokens['z'] = "no byte";
  EXPECT_EQ((*NewBpe(config))->Encode("azb", false).ids, (std::vector<int32_t>{256}));
}

TEST(BpeTest, AWordThatIsATokenNeedsNoMerges) {
  BpeConfig config = SmallConfig();
  config.tokens.push_back("word");
  config.tokens.push_back("<|end|>x");
  const auto word = static_cast<int32_t>(config.tokens.size()) - 2;
  EXPECT_EQ((*NewBpe(config))->Encode("word", false).ids.size(), 4u);
  config.ignore_merges = true;
  EXPECT_EQ((*NewBpe(config))->Encode("word", false).ids, std::vector<int32_t>{word});
}

TEST(BpeTest, AddedTokensTakeTheirSpaces) {
  BpeConfig config = SmallConfig();
  config.added[0].takes_space_after = true;
  config.added[1].takes_space_before = true;
  config.tokens.push_back("<tool>");
  const auto tool = static_cast<int32_t>(config.tokens.size()) - 1;
  config.added.push_back({.text = "<tool>", .id = tool, .special = false, .single_word = true});
  const auto tokenizer = *NewBpe(config);
  const int32_t end = tokenizer->eos_id();
  const Encoding encoding = tokenizer->Encode("<|end|> \n x  <|endless|>y", true);
  EXPECT_EQ(encoding.ids, (std::vector<int32_t>{end, 'x', end + 1, 'y'}));
  EXPECT_EQ(encoding.begin, (std::vector<uint32_t>{0, 10, 11, 24}));
  EXPECT_EQ(encoding.end, (std::vector<uint32_t>{10, 11, 24, 25}));
  // A token that lies in the white space that the one before it takes is found, unless it takes
  // white space before it.
  config.tokens.push_back("\n\n");
  config.added.push_back({.text = "\n\n", .id = tool + 1, .special = false});
  EXPECT_EQ((*NewBpe(config))->Encode("<|end|>\n\nx\n\n", true).ids,
            (std::vector<int32_t>{end, tool + 1, 'x', tool + 1}));
  config.added.back().takes_space_before = true;
  EXPECT_EQ((*NewBpe(config))->Encode("<|end|>\n\nx\n\n", true).ids,
            (std::vector<int32_t>{end, 'x', tool + 1}));
  EXPECT_EQ(tokenizer->Encode("!<tool>!", false).ids, (std::vector<int32_t>{'!', tool, '!'}));
  EXPECT_GT(tokenizer->Encode("a<tool>", false).ids.size(), 2u);
  EXPECT_FALSE(tokenizer->IsSpecial(tool));
}

// The ids are those of Hugging Face's tokenizers.
TEST(BpeTest, NormalizedAddedTokensAreFoundInTheNormalisedTextAfterTheOthers) {
  BpeConfig config = SmallConfig();
  config.added.clear();
  config.steps = {{.kind = TextStep::Kind::kLowercase}};
  config.normalizer_steps = 1;
  const auto add = [&](const char* text, bool normalized) {
    config.tokens.push_back(text);
    const auto id = static_cast<int32_t>(config.tokens.size()) - 1;
    config.added.push_back({.text = text,
                            .id = id,
                            .special = false,
                            .normalized = normalized,
                            .in_vocabulary = false});
    return id;
  };
  const int32_t tool = add("[TOOL]", true), written = add("[T", false);
  const auto tokenizer = *NewBpe(config);
  EXPECT_EQ(tokenizer->Encode("x[tOOL]y", false).ids, (std::vector<int32_t>{'x', tool, 'y'}));
  EXPECT_EQ(tokenizer->Encode("[TOOL]", false).ids,
            (std::vector<int32_t>{written, 'o', 'o', 'l', ']'}));
}

// U+00BD is a number, but in no word; no symbol becomes a token that only the added ones have.
TEST(BpeTest, AddedTokensAloneAreNoSymbols) {
  BpeConfig config = SmallConfig();
  config.ignore_merges = true;
  config.tokens.push_back("xy");
  const auto id = static_cast<int32_t>(config.tokens.size()) - 1;
  config.added = {
      {.text = "xy", .id = id, .special = false, .single_word = true, .in_vocabulary = false}};
  config.splits = {Gpt2Words()};
  const auto tokenizer = *NewBpe(config);
  EXPECT_EQ(tokenizer->Encode("\u00bdxy", false).ids.back(), id);
  EXPECT_EQ(tokenizer->Encode("!xy", false).ids, (std::vector<int32_t>{'!', id}));
  EXPECT_EQ(tokenizer->Encode("1xy", false).ids, (std::vector<int32_t>{'1', 'x', 'y'}));
}

// A quadratic algorithm would need minutes for these.
TEST(BpeTest, LongPiecesTakeTimeInProportion) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'a'), false).ids.size(), size_t{1} << 20);
  std::string pairs;
  for (int i = 0; i < (1 << 18); ++i) pairs += "ab";
  EXPECT_EQ(tokenizer->Encode(pairs, false).ids.size(), size_t{1} << 17);
}

TEST(BpeTest, ThreadsShareIt) {
  const auto tokenizer = Small();
  const std::string text = "ab the er abab";
  const std::vector<int32_t> want = tokenizer->Encode(text, false).ids;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) wrong += tokenizer->Encode(text, false).ids != want;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// "\xc4" followed by "A" is no character of the alphabet, whatever its low bits say.
TEST(BpeTest, IllFormedTokensStandForNoByte) {
  EXPECT_EQ(BytesOfToken("\xc4\x81"), std::string("\x01"));
  for (const char* text : {"\xc4",
                           "\xc4"
                           "A",
                           "\xc1\x81", "\xc4\xc4", "\x81", "\xe2\x82\xac"}) {
    EXPECT_EQ(BytesOfToken(text), std::nullopt) << text;
  }
}

TEST(BpeTest, NoTokenStandsForMoreThanTheLongest) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->longest_token_bytes(), 4u) << "special tokens do not count";
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    const Encoding encoding = tokenizer->Encode(RandomText(random), /*parse_special=*/false);
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      EXPECT_LE(encoding.end[i] - encoding.begin[i], 4u);
    }
  }
  BpeConfig config = SmallConfig();
  config.tokens[0xff] = "no byte";  // of no well-formed text
  EXPECT_EQ((*NewBpe(config))->longest_token_bytes(), 7u);
  config.tokens['z'] = "no byte either";
  EXPECT_EQ((*NewBpe(config))->longest_token_bytes(), 0u) << "a z leaves no token";
}

TEST(BpeTest, BeginTokenIsNamedAndNotEncoded) {
  BpeConfig config = SmallConfig();
  const std::vector<int32_t> ids = (*NewBpe(config))->Encode("ab", true).ids;
  config.add_bos = true;
  config.bos_id = 'a';
  const auto tokenizer = *NewBpe(config);
  EXPECT_EQ(tokenizer->bos_id(), 'a');
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->Encode("ab", true).ids, ids);
  EXPECT_TRUE(tokenizer->Encode("", true).ids.empty());
}

TEST(BpeTest, TokensAreFoundByText) {
  const BpeConfig config = SmallConfig();
  const auto tokenizer = *NewBpe(config);
  for (size_t id = 0; id < config.tokens.size(); ++id) {
    EXPECT_EQ(tokenizer->FindToken(config.tokens[id]), static_cast<int32_t>(id));
  }
  EXPECT_EQ(tokenizer->FindToken("no such token"), -1);
  EXPECT_EQ(tokenizer->FindToken(""), -1);
}

TEST(BpeTest, DamagedVocabulariesAreRefusedByName) {
  const auto expect = [](const char* what, const std::function<void(BpeConfig&)>& damage) {
    BpeConfig config = SmallConfig();
    damage(config);
    const auto tokenizer = NewBpe(std::move(config));
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_THAT(std::string(tokenizer.status().message()),
                testing::AllOf(testing::HasSubstr("small.json"), testing::HasSubstr(what)));
  };
  using C = BpeConfig;
  expect("0 tokens", [](C& c) { c.tokens.clear(); });
  expect("repeats", [](C& c) { c.tokens[7] = c.tokens[8]; });
  expect("merge 0", [](C& c) { c.merges[0].right = ""; });
  expect("merge 1", [](C& c) { c.merges[1].right = "zz"; });
  expect("merge 6", [](C& c) { c.merges.push_back(c.merges[0]); });
  expect("added token", [](C& c) { c.added.push_back({.text = "x", .id = 1 << 20}); });
  expect("added token", [](C& c) { c.added.push_back({.text = "", .id = 1}); });
  expect("unknown token", [](C& c) { c.unk_id = 1 << 20; });
  expect("pattern does not compile", [](C& c) { c.splits.push_back({.pattern = "(a"}); });
  expect("a pattern of", [](C& c) { c.splits.push_back({.pattern = std::string(1 << 20, 'a')}); });
  expect("scores for", [](C& c) { c.scores = {1, 2}; });
  expect("finite", [](C& c) { c.scores.assign(c.tokens.size(), std::nan("")); });
  expect("end token", [](C& c) { c.eos_id = 1 << 20; });
}

}  // namespace
}  // namespace lectern
