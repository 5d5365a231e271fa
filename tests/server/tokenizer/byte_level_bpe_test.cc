// The tokeniser on a small vocabulary: properties, odd input, damaged vocabularies, threads.
#include "server/tokenizer/bpe/byte_level_bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "base/utf8.h"
#include "server/tokenizer/bpe/byte_alphabet.h"

namespace lectern {
namespace {

// All bytes, "ab", "abab", "er", " the", and two special tokens.
ByteLevelBpeConfig SmallConfig() {
  ByteLevelBpeConfig config;
  config.source = "small.json";
  for (const std::string& byte : ByteAlphabet()) config.tokens.push_back(byte);
  const std::string space = ByteAlphabet()[' '];
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"a", "b"}, {"ab", "ab"}, {"e", "r"}, {space, "t"}, {"h", "e"}, {space + "t", "he"}}) {
    config.tokens.push_back(left + right);
    config.merges.push_back(left + " " + right);
  }
  config.tokens.push_back("<|end|>");
  config.tokens.push_back("<|endless|>");
  const int32_t n = static_cast<int32_t>(config.tokens.size());
  config.special_ids = {n - 2, n - 1};
  config.eos_id = n - 2;
  return config;
}

std::unique_ptr<Tokenizer> Small() {
  auto tokenizer = NewByteLevelBpe(SmallConfig());
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

TEST(ByteLevelBpeTest, MergesByRank) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->Encode("abab", false).ids, std::vector<int32_t>{257});
  EXPECT_EQ(tokenizer->Encode("ababab", false).ids, (std::vector<int32_t>{257, 256}));
  EXPECT_EQ(tokenizer->Encode("a the", false).ids, (std::vector<int32_t>{'a', 261}));
}

TEST(ByteLevelBpeTest, DecodingIsTheInverseAndRangesCoverTheText) {
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

TEST(ByteLevelBpeTest, StreamingGivesTheSameTextInWholeCharacters) {
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

TEST(ByteLevelBpeTest, AnyBytesAreTokenised) {
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

TEST(ByteLevelBpeTest, SpecialTokensCountOnlyWhenAskedFor) {
  const auto tokenizer = Small();
  const int32_t end = tokenizer->eos_id();
  EXPECT_EQ(tokenizer->Encode("<|end|>", true).ids, std::vector<int32_t>{end});
  EXPECT_GT(tokenizer->Encode("<|end|>", false).ids.size(), 1u);
  EXPECT_EQ(tokenizer->Encode("x<|endless|><|end|>y", true).ids,
            (std::vector<int32_t>{'x', end + 1, end, 'y'}));
  EXPECT_EQ(tokenizer->Decode({'x', end, 'y'}, true), "xy");
  EXPECT_EQ(tokenizer->Decode({'x', end, 'y'}, false), "x<|end|>y");
}

// A quadratic algorithm would need minutes for these.
TEST(ByteLevelBpeTest, LongPiecesTakeTimeInProportion) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'a'), false).ids.size(), size_t{1} << 20);
  std::string pairs;
  for (int i = 0; i < (1 << 18); ++i) pairs += "ab";
  EXPECT_EQ(tokenizer->Encode(pairs, false).ids.size(), size_t{1} << 17);
}

TEST(ByteLevelBpeTest, ThreadsShareIt) {
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
TEST(ByteLevelBpeTest, IllFormedTokensStandForNoByte) {
  EXPECT_EQ(BytesOfToken("\xc4\x81"), std::string("\x01"));
  for (const char* text : {"\xc4",
                           "\xc4"
                           "A",
                           "\xc1\x81", "\xc4\xc4", "\x81", "\xe2\x82\xac"}) {
    EXPECT_EQ(BytesOfToken(text), std::nullopt) << text;
  }
}

TEST(ByteLevelBpeTest, NoTokenStandsForMoreThanTheLongest) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->longest_token_bytes(), 4u) << "special tokens do not count";
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    const Encoding encoding = tokenizer->Encode(RandomText(random), /*parse_special=*/false);
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      EXPECT_LE(encoding.end[i] - encoding.begin[i], 4u);
    }
  }
  ByteLevelBpeConfig config = SmallConfig();
  config.tokens[0xff] = "no byte";  // of no well-formed text
  EXPECT_EQ((*NewByteLevelBpe(config))->longest_token_bytes(), 7u);
  config.tokens['z'] = "no byte either";
  EXPECT_EQ((*NewByteLevelBpe(config))->longest_token_bytes(), 0u) << "a z leaves no token";
}

TEST(ByteLevelBpeTest, BeginTokenIsNamedAndNotEncoded) {
  ByteLevelBpeConfig config = SmallConfig();
  const std::vector<int32_t> ids = (*NewByteLevelBpe(config))->Encode("ab", true).ids;
  config.add_bos = true;
  config.bos_id = 'a';
  const auto tokenizer = *NewByteLevelBpe(config);
  EXPECT_EQ(tokenizer->bos_id(), 'a');
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->Encode("ab", true).ids, ids);
  EXPECT_TRUE(tokenizer->Encode("", true).ids.empty());
}

TEST(ByteLevelBpeTest, TokensAreFoundByText) {
  const ByteLevelBpeConfig config = SmallConfig();
  const auto tokenizer = *NewByteLevelBpe(config);
  for (size_t id = 0; id < config.tokens.size(); ++id) {
    EXPECT_EQ(tokenizer->FindToken(config.tokens[id]), static_cast<int32_t>(id));
  }
  EXPECT_EQ(tokenizer->FindToken("no such token"), -1);
  EXPECT_EQ(tokenizer->FindToken(""), -1);
}

TEST(ByteLevelBpeTest, DamagedVocabulariesAreRefusedByName) {
  const auto expect = [](const char* what, const std::function<void(ByteLevelBpeConfig&)>& damage) {
    ByteLevelBpeConfig config = SmallConfig();
    damage(config);
    const auto tokenizer = NewByteLevelBpe(std::move(config));
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_THAT(std::string(tokenizer.status().message()),
                testing::AllOf(testing::HasSubstr("small.json"), testing::HasSubstr(what)));
  };
  using C = ByteLevelBpeConfig;
  expect("0 tokens", [](C& c) { c.tokens.clear(); });
  expect("repeats", [](C& c) { c.tokens[7] = c.tokens[8]; });
  expect("merge 0", [](C& c) { c.merges[0] = "nospace"; });
  expect("merge 1", [](C& c) { c.merges[1] = "ab zz"; });
  expect("merge 6", [](C& c) { c.merges.push_back(c.merges[0]); });
  expect("special token", [](C& c) { c.special_ids.push_back(1 << 20); });
  expect("end token", [](C& c) { c.eos_id = 1 << 20; });
  expect("begin token", [](C& c) { c.add_bos = true; });
}

}  // namespace
}  // namespace lectern
