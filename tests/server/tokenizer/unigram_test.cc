// The unigram tokenizer on small vocabularies: rules, ties, bytes, ranges, damaged vocabularies.
#include "server/tokenizer/unigram/unigram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "base/error_details.h"
#include "server/tokenizer/tokenizer_limits.h"
#include "tests/server/tokenizer/expect_ranges.h"

namespace lectern {
namespace {

using Ids = std::vector<int32_t>;
using Offsets = std::vector<uint32_t>;

const std::string kSpace = "\xe2\x96\x81";

// 0 <pad>, 1 </s>, 2 <unk>, 3 _, 4 _a, 5 a, 6 b, 7 ab, 8 aa, 9 never used
UnigramConfig SmallConfig() {
  UnigramConfig config;
  config.pieces = {{"<pad>", 0, PieceType::kControl},
                   {"</s>", 0, PieceType::kControl},
                   {"<unk>", 0, PieceType::kUnknown},
                   {kSpace, -2},
                   {kSpace + "a", -3},
                   {"a", -3},
                   {"b", -3},
                   {"ab", -4.5},
                   {"aa", -4},
                   {"ba", -1, PieceType::kUnused}};
  config.unk_id = 2;
  config.eos_id = 1;
  config.pad_id = 0;
  config.source = "small.model";
  return config;
}

std::unique_ptr<Tokenizer> Make(UnigramConfig config) {
  auto tokenizer = NewUnigram(std::move(config));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// Every byte as a piece, after the small vocabulary.
UnigramConfig ByteConfig() {
  UnigramConfig config = SmallConfig();
  config.byte_fallback = true;
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    config.pieces.push_back({text, 0, PieceType::kByte});
  }
  return config;
}

TEST(UnigramTest, TakesTheBestWay) {
  const auto t = Make(SmallConfig());
  EXPECT_EQ(t->Encode("ab", false).ids, (Ids{4, 6}));
  EXPECT_EQ(t->Encode("bab", false).ids, (Ids{3, 6, 7}));  // "ba" is not used
  EXPECT_EQ(t->Encode("baa", false).ids, (Ids{3, 6, 8}));
  EXPECT_EQ(t->eos_id(), 1);
  EXPECT_EQ(t->vocab_size(), 10);
  EXPECT_EQ(t->longest_token_bytes(), 0u);
  EXPECT_EQ(t->Encode("", false).ids, Ids());
}

TEST(UnigramTest, OfEqualWaysTheOneWithTheLongerLastPiece) {
  // b aa a and b a aa cost the same; SentencePiece 0.2.3 takes the second.
  EXPECT_EQ(Make(SmallConfig())->Encode("baaa", false).ids, (Ids{3, 6, 5, 8}));
}

TEST(UnigramTest, SpacesAndRanges) {
  const auto t = Make(SmallConfig());
  const Encoding e = t->Encode("  a  b ", false);
  EXPECT_EQ(e.ids, (Ids{4, 3, 6}));
  EXPECT_EQ(e.begin, (Offsets{2, 3, 5}));
  EXPECT_EQ(e.end, (Offsets{3, 4, 6}));
  EXPECT_EQ(t->Decode(e.ids, false), "a b");

  UnigramConfig config = SmallConfig();
  config.add_dummy_prefix = config.remove_extra_whitespaces = false;
  const auto plain = Make(config);
  EXPECT_EQ(plain->Encode("a  a ", false).ids, (Ids{5, 3, 4, 3}));
  EXPECT_EQ(plain->Decode({5, 3, 4, 3}, false), "a  a ");
  config.escape_whitespaces = false;
  EXPECT_EQ(Make(config)->Encode("a a", false).ids, (Ids{5, 2, 5}));  // no piece for a blank
}

TEST(UnigramTest, UnknownCharactersInARowAreOneToken) {
  const auto t = Make(SmallConfig());
  const std::string text =
      "a\xc3\xa9\xe4\xb8\xad"
      "b zz";
  const Encoding e = t->Encode(text, false);
  EXPECT_EQ(e.ids, (Ids{4, 2, 6, 3, 2}));
  EXPECT_EQ(e.begin, (Offsets{0, 1, 6, 7, 8}));
  EXPECT_EQ(e.end, (Offsets{1, 6, 7, 8, 10}));
  EXPECT_EQ(t->Decode(e.ids, true), "a \xe2\x81\x87 b  \xe2\x81\x87 ");
}

TEST(UnigramTest, UnknownCharactersAsBytes) {
  const auto t = Make(ByteConfig());
  const std::string text = "a\xc3\xa9";
  const Encoding e = t->Encode(text, false);
  EXPECT_EQ(e.ids, (Ids{4, 10 + 0xc3, 10 + 0xa9}));
  EXPECT_EQ(e.begin, (Offsets{0, 1, 1}));
  EXPECT_EQ(e.end, (Offsets{1, 3, 3}));
  EXPECT_EQ(t->Decode(e.ids, true), text);
  const auto stream = t->NewStreamDecoder();
  EXPECT_EQ(stream->Append(4), "a");
  EXPECT_EQ(stream->Append(10 + 0xc3), "");
  EXPECT_EQ(stream->Append(10 + 0xa9), "\xc3\xa9");
  EXPECT_EQ(stream->Append(10 + 0xc3), "");
  EXPECT_EQ(stream->Append(6),
            "\xef\xbf\xbd"
            "b");
  EXPECT_EQ(stream->Append(10 + 0xe4), "");
  EXPECT_EQ(stream->Finish(), "\xef\xbf\xbd");
  EXPECT_EQ(t->Encode("<0x41>", false).ids, t->Encode("<0x41>", true).ids);  // text like any other
}

TEST(UnigramTest, SpecialTokensOnlyWhenAskedFor) {
  UnigramConfig config = SmallConfig();
  config.added = {{"<extra_id_0>", 12, true}, {"<tab>", 11, false}};
  const auto t = Make(config);
  EXPECT_EQ(t->vocab_size(), 13);
  EXPECT_THAT(t->Encode("a</s>", false).ids, testing::Not(testing::Contains(1)));
  const Encoding e = t->Encode("a</s><extra_id_0> b<tab>", true);
  EXPECT_EQ(e.ids, (Ids{4, 1, 12, 3, 6, 11}));
  EXPECT_EQ(e.begin, (Offsets{0, 1, 5, 18, 18, 19}));
  EXPECT_EQ(e.end, (Offsets{1, 5, 17, 18, 19, 24}));
  EXPECT_EQ(t->Encode("a<tab>", false).ids, (Ids{4, 11}));
  EXPECT_TRUE(t->IsSpecial(1) && t->IsSpecial(12));
  EXPECT_FALSE(t->IsSpecial(11) || t->IsSpecial(2) || t->IsSpecial(-1) || t->IsSpecial(13));
  EXPECT_EQ(t->Decode({1, 12, 11, 4, 10, 99, -7}, true), "<tab> a");
  EXPECT_EQ(t->Decode({4, 1}, false), "a</s>");
}

TEST(UnigramTest, UserDefinedPiecesAlwaysWin) {
  UnigramConfig config = SmallConfig();
  config.pieces.push_back({"bb", 0, PieceType::kUserDefined});
  const auto t = Make(config);
  EXPECT_EQ(t->Encode("abbb", false).ids, (Ids{4, 6, 10}));
}

TEST(UnigramTest, HuggingFaceRules) {
  UnigramConfig config = SmallConfig();
  config.metaspace.emplace();
  using Step = MetaspaceRules::Step;
  EXPECT_EQ(Make(config)->Encode(" a  a", false).ids, (Ids{4, 3, 4}));
  config.metaspace->split_at_spaces = true;
  EXPECT_EQ(Make(config)->Encode("\ta \n b\t", false).ids, (Ids{4, 3, 6}));
  config.metaspace->split_at_spaces = false;
  config.metaspace->steps = {{.kind = Step::kLowercase},
                             {.kind = Step::kStrip, .left = false},
                             {.kind = Step::kReplaceBlanks, .by = kSpace},
                             {.kind = Step::kReplace, .pattern = "zz", .by = "b"}};
  const Encoding e = Make(config)->Encode("A   zzA  ", false);
  EXPECT_EQ(e.ids, (Ids{4, 3, 6, 5}));
  EXPECT_EQ(e.begin, (Offsets{0, 1, 4, 6}));
  EXPECT_EQ(e.end, (Offsets{1, 4, 6, 7}));
  config.metaspace->prefix = MetaspaceRules::Prefix::kFirst;
  EXPECT_EQ(Make(config)->Encode("a</s>a", true).ids, (Ids{4, 1, 5}));
  config.metaspace->prefix = MetaspaceRules::Prefix::kNever;
  EXPECT_EQ(Make(config)->Encode("a", false).ids, Ids{5});
}

TEST(UnigramTest, RangesAreSoundAndStreamsDecodeTheSame) {
  std::mt19937 random(11);
  UnigramConfig metaspace = SmallConfig();
  metaspace.metaspace.emplace();
  metaspace.metaspace->steps = {{.kind = MetaspaceRules::Step::kLowercase}};
  for (const UnigramConfig& config : {SmallConfig(), ByteConfig(), metaspace}) {
    const auto t = Make(config);
    for (int round = 0; round < 400; ++round) {
      const std::string text = test::OddText(random);
      const Encoding e = t->Encode(text, round % 2 == 0);
      test::ExpectSoundRanges(text, e);
      test::ExpectStreamDecodes(*t, e.ids);
      EXPECT_TRUE(IsValidUtf8(t->Decode(e.ids, false)));
    }
  }
}

TEST(UnigramTest, LongTextsAreCutLikeShortOnes) {
  const auto t = Make(SmallConfig());
  const Ids word = t->Encode("baaab", false).ids;
  std::string text;
  Ids want;
  for (int i = 0; i < 30'000; ++i) {
    text += "baaab ";
    want.insert(want.end(), word.begin(), word.end());
  }
  const Ids got = t->Encode(text, false).ids;
  // Sums of any length choose between ways of the same length here.
  EXPECT_EQ(got.size(), want.size());
}

TEST(UnigramTest, ManyThreads) {
  const auto t = Make(ByteConfig());
  const Encoding want = t->Encode("abba aaa \xc3\xa9", false);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        EXPECT_EQ(t->Encode("abba aaa \xc3\xa9", false).ids, want.ids);
        EXPECT_EQ(t->Decode(want.ids, true), "abba aaa \xc3\xa9");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(UnigramTest, DamagedVocabulariesAreRefused) {
  const std::vector<std::pair<const char*, std::function<void(UnigramConfig&)>>> table = {
      {"0 pieces; 1 to", [](auto& c) { c.pieces.clear(); }},
      {"pieces; 1 to", [](auto& c) { c.pieces.resize(kMaxPieces + 1); }},
      {"piece 4 is empty", [](auto& c) { c.pieces[4].text.clear(); }},
      {"at most 512", [](auto& c) { c.pieces[4].text.assign(kMaxPieceBytes + 1, 'x'); }},
      {"piece 4 is not UTF-8", [](auto& c) { c.pieces[4].text = "\xed\xa0\x80"; }},
      {"piece 6 repeats piece 5", [](auto& c) { c.pieces[6].text = "a"; }},
      {"score of piece 5", [](auto& c) { c.pieces[5].score = std::nan(""); }},
      {"score of piece 5",
       [](auto& c) { c.pieces[5].score = -std::numeric_limits<double>::infinity(); }},
      {"score of piece 5", [](auto& c) { c.pieces[5].score = 1e300; }},
      {"unk_id 3", [](auto& c) { c.unk_id = 3; }},
      {"unk_id 10", [](auto& c) { c.unk_id = 10; }},
      {"unk_id -1", [](auto& c) { c.unk_id = -1; }},
      {"there are 2", [](auto& c) { c.pieces[3].type = PieceType::kUnknown; }},
      {"not every byte", [](auto& c) { c.byte_fallback = true; }},
      {"not spelled like", [](auto& c) { c.pieces[5].type = PieceType::kByte; }},
      {"end token 10", [](auto& c) { c.eos_id = 10; }},
      {"pad token 99", [](auto& c) { c.pad_id = 99; }},
      {"added token 5000000",
       [](auto& c) {
         c.added = {{"x", 5'000'000}};
       }},
      {"added token -1",
       [](auto& c) {
         c.added = {{"x", -1}};
       }},
      {"added token 12 is empty",
       [](auto& c) {
         c.added = {{"", 12}};
       }},
      {"id 5 is given to two",
       [](auto& c) {
         c.added = {{"x", 5}};
       }},
      {"charsmap: breaks off", [](auto& c) { c.charsmap = "x"; }},
      {"17 normalizers",
       [](auto& c) {
         c.metaspace.emplace();
         c.metaspace->steps.resize(kMaxNormalizerSteps + 1,
                                   {.kind = MetaspaceRules::Step::kLowercase});
       }},
      {"more than 8 times",
       [](auto& c) {
         c.metaspace.emplace();
         c.metaspace->steps.resize(
             2, {.kind = MetaspaceRules::Step::kReplace, .pattern = "a", .by = "aaa"});
       }},
      {"replaces nothing",
       [](auto& c) {
         c.metaspace.emplace();
         c.metaspace->steps = {{.kind = MetaspaceRules::Step::kReplace}};
       }},
      {"not UTF-8",
       [](auto& c) {
         c.metaspace.emplace();
         c.metaspace->steps = {
             {.kind = MetaspaceRules::Step::kReplace, .pattern = "a", .by = "\xff"}};
       }},
  };
  for (const auto& [why, damage] : table) {
    UnigramConfig config = SmallConfig();
    damage(config);
    const absl::Status status = NewUnigram(std::move(config)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << why;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(why));
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("small.model"));
    EXPECT_EQ(GetErrorDetails(status).reason, "MODEL_FILE_INVALID");
  }
}

}  // namespace
}  // namespace lectern
