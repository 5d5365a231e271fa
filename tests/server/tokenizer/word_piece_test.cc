// WordPiece on a small vocabulary: BERT's words, pieces, ranges, decoding, damaged vocabularies.
#include "server/tokenizer/word_piece/word_piece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error_details.h"
#include "server/tokenizer/tokenizer_limits.h"
#include "tests/server/tokenizer/expect_ranges.h"

namespace lectern {
namespace {

using Ids = std::vector<int32_t>;
using Offsets = std::vector<uint32_t>;

WordPieceConfig SmallConfig() {
  WordPieceConfig config;
  //               0        1        2        3        4    5      6      7      8    9    10
  config.tokens = {"[PAD]", "[UNK]",        "[CLS]", "[SEP]", "a",        "##a", "##b", "##ab", ".",
                   "b",     "\xe4\xb8\xad", "x",     "##",    "\xc3\xa9", "don", "'",   "t"};
  config.special_ids = {0, 1, 2, 3};
  config.unk_id = 1;
  config.source = "small.txt";
  return config;
}

std::unique_ptr<Tokenizer> Make(WordPieceConfig config) {
  auto tokenizer = NewWordPiece(std::move(config));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(WordPieceTest, LongestPiecesFromTheLeft) {
  const auto t = Make(SmallConfig());
  EXPECT_EQ(t->Encode("aab", false).ids, (Ids{4, 7}));
  EXPECT_EQ(t->Encode("aaab", false).ids, (Ids{4, 5, 7}));
  EXPECT_EQ(t->Encode("ac", false).ids, Ids{1});
  EXPECT_EQ(t->Encode("AB. b", false).ids, (Ids{4, 6, 8, 9}));
  EXPECT_EQ(t->Encode("", false).ids, Ids());
  EXPECT_EQ(t->eos_id(), -1);
}

TEST(WordPieceTest, RangesThroughNormalisation) {
  const auto t = Make(SmallConfig());
  // a with an accent written in two characters; a soft hyphen; an ideograph.
  const std::string text =
      "A\xcc\x81"
      "b\xc2\xad"
      "a \xe4\xb8\xad"
      "b\xe2\x80\xa6";
  const Encoding e = t->Encode(text, false);
  EXPECT_EQ(e.ids, (Ids{4, 6, 5, 10, 9, 1}));
  EXPECT_EQ(e.begin, (Offsets{0, 3, 6, 8, 11, 12}));
  EXPECT_EQ(e.end, (Offsets{1, 4, 7, 11, 12, 15}));
}

TEST(WordPieceTest, RulesCanBeSwitchedOff) {
  WordPieceConfig config = SmallConfig();
  config.rules.lowercase = false;
  EXPECT_EQ(Make(config)->Encode("A", false).ids, Ids{1});
  config.rules.strip_accents = false;
  EXPECT_EQ(Make(config)->Encode("\xc3\xa9", false).ids, Ids{13});
  config.rules.handle_chinese_chars = false;
  EXPECT_EQ(Make(config)
                ->Encode("\xe4\xb8\xad"
                         "b",
                         false)
                .ids,
            (Ids{10, 6}));
}

TEST(WordPieceTest, LongWordsAreUnknown) {
  const auto t = Make(SmallConfig());
  EXPECT_EQ(t->Encode(std::string(100, 'a'), false).ids.size(), 100u);
  const Encoding e = t->Encode("b " + std::string(101, 'a'), false);
  EXPECT_EQ(e.ids, (Ids{9, 1}));
  EXPECT_EQ(e.end, (Offsets{1, 103}));
}

TEST(WordPieceTest, SpecialTokensOnlyWhenAskedFor) {
  const auto t = Make(SmallConfig());
  const Encoding e = t->Encode("[CLS]a[SEP]", true);
  EXPECT_EQ(e.ids, (Ids{2, 4, 3}));
  EXPECT_EQ(e.begin, (Offsets{0, 5, 6}));
  EXPECT_EQ(e.end, (Offsets{5, 6, 11}));
  EXPECT_THAT(t->Encode("[CLS]", false).ids, testing::Not(testing::Contains(2)));
  EXPECT_TRUE(t->IsSpecial(2));
  EXPECT_FALSE(t->IsSpecial(4) || t->IsSpecial(-1) || t->IsSpecial(99));
}

TEST(WordPieceTest, DecodesAsHuggingFace) {
  const auto t = Make(SmallConfig());
  EXPECT_EQ(t->Decode({2, 4, 7, 9, 8, 3}, true), "aab b.");
  EXPECT_EQ(t->Decode({2, 4, 3}, false), "[CLS] a [SEP]");
  EXPECT_EQ(t->Decode({7, 14, 15, 16, 99, -1}, true), "##ab don ' t");
  WordPieceConfig config = SmallConfig();
  config.cleanup = false;
  EXPECT_EQ(Make(config)->Decode({9, 8}, true), "b .");
}

TEST(WordPieceTest, RangesAreSoundAndStreamsDecodeTheSame) {
  std::mt19937 random(12);
  const auto t = Make(SmallConfig());
  for (int round = 0; round < 600; ++round) {
    const std::string text = test::OddText(random);
    const Encoding e = t->Encode(text, round % 2 == 0);
    test::ExpectSoundRanges(text, e);
    test::ExpectStreamDecodes(*t, e.ids);
  }
}

TEST(WordPieceTest, DamagedVocabulariesAreRefused) {
  const std::vector<std::pair<const char*, std::function<void(WordPieceConfig&)>>> table = {
      {"0 tokens; 1 to", [](auto& c) { c.tokens.clear(); }},
      {"tokens; 1 to", [](auto& c) { c.tokens.resize(kMaxPieces + 1); }},
      {"at most 512", [](auto& c) { c.tokens[4].assign(kMaxPieceBytes + 1, 'x'); }},
      {"token 4 is not UTF-8", [](auto& c) { c.tokens[4] = "\xff"; }},
      {"token 9 repeats token 4", [](auto& c) { c.tokens[9] = "a"; }},
      {"unknown words", [](auto& c) { c.unk_id = -1; }},
      {"unknown words", [](auto& c) { c.unk_id = 17; }},
      {"end token 17", [](auto& c) { c.eos_id = 17; }},
      {"special token 17", [](auto& c) { c.special_ids = {17}; }},
      {"special token 4",
       [](auto& c) {
         c.tokens[4].clear();
         c.special_ids = {4};
       }},
      {"prefix", [](auto& c) { c.prefix.clear(); }},
      {"0 characters a word", [](auto& c) { c.max_word_chars = 0; }},
      {"1001 characters a word", [](auto& c) { c.max_word_chars = kMaxWordChars + 1; }},
  };
  for (const auto& [why, damage] : table) {
    WordPieceConfig config = SmallConfig();
    damage(config);
    const absl::Status status = NewWordPiece(std::move(config)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << why;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(why));
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("small.txt"));
    EXPECT_EQ(GetErrorDetails(status).reason, "MODEL_FILE_INVALID");
  }
}

}  // namespace
}  // namespace lectern
