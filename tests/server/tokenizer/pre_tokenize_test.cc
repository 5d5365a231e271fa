// The division of texts into pieces. The pieces are those of the Hugging Face tokenizers library,
// version 0.23.3 (ByteLevel; Digits with individual_digits and then ByteLevel).
#include "server/tokenizer/bpe/pre_tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lectern {
namespace {

using Pieces = std::vector<std::string>;

Pieces Cut(const std::vector<SplitRule>& rules, const std::string& text) {
  const auto cutter = PreTokenize::Create(rules);
  EXPECT_TRUE(cutter.ok()) << cutter.status();
  Pieces pieces;
  cutter->Cut(text,
              [&](size_t begin, size_t end) { pieces.push_back(text.substr(begin, end - begin)); });
  return pieces;
}

TEST(PreTokenizeTest, CutsAsGpt2Does) {
  EXPECT_EQ(Cut({Gpt2Words()}, "Hello world's  end\n\n"),
            (Pieces{"Hello", " world", "'s", " ", " end", "\n\n"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "it'll I'VE 12ab"),
            (Pieces{"it", "'ll", " I", "'", "VE", " 12", "ab"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "  \t x"), (Pieces{"  \t", " x"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80!"),
            (Pieces{"caf\xc3\xa9", " \xe6\xbc\xa2\xe5\xad\x97", " \xf0\x9f\x98\x80!"}));
}

TEST(PreTokenizeTest, NumbersStandAlone) {
  EXPECT_EQ(Cut({SingleDigits(), Gpt2Words()}, "a 12  3"), (Pieces{"a", " ", "1", "2", "  ", "3"}));
  EXPECT_EQ(Cut({SingleDigits(), Gpt2Words()}, "x \xc2\xbd\xd9\xa3 \xe2\x85\xa7"),
            (Pieces{"x", " ", "\xc2\xbd", "\xd9\xa3", " ", "\xe2\x85\xa7"}));
  EXPECT_EQ(Cut({SingleDigits(), Gpt2Words()}, "  7"), (Pieces{"  ", "7"}));
}

// Unicode's White_Space and no other: U+180E, U+200B and U+001F are not in it.
TEST(PreTokenizeTest, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(Cut({Gpt2Words()}, "a\xe1\xa0\x8e!"), (Pieces{"a", "\xe1\xa0\x8e!"}));
  EXPECT_EQ(Cut({Gpt2Words()},
                "a \xe1\xa0\x8e"
                "b"),
            (Pieces{"a", " \xe1\xa0\x8e", "b"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "a\xe2\x80\x8b!"), (Pieces{"a", "\xe2\x80\x8b!"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "a\xc2\xa0\xe2\x80\x83 b"),
            (Pieces{"a", "\xc2\xa0\xe2\x80\x83", " b"}));
  EXPECT_EQ(Cut({Gpt2Words()},
                "a\xc2\x85\xe3\x80\x80"
                "b"),
            (Pieces{"a", "\xc2\x85", "\xe3\x80\x80", "b"}));
  EXPECT_EQ(Cut({Gpt2Words()}, "a \x1f b"), (Pieces{"a", " \x1f", " b"}));
  EXPECT_EQ(Cut({Gpt2Words()},
                "a \xe1\x9a\x80\xe2\x80\xaf\xe2\x81\x9f\xe2\x80\xa8"
                "b"),
            (Pieces{"a", " \xe1\x9a\x80\xe2\x80\xaf\xe2\x81\x9f", "\xe2\x80\xa8", "b"}));
}

TEST(PreTokenizeTest, NoCutting) {
  EXPECT_EQ(Cut({}, "a b 12"), Pieces{"a b 12"});
  EXPECT_EQ(Cut({}, ""), Pieces{});
}

// The behaviours of Split, on the example of its documentation.
TEST(PreTokenizeTest, BehaviorsDecideWhatBecomesOfMatches) {
  using Behavior = SplitRule::Behavior;
  const auto cut = [](Behavior behavior, bool invert = false) {
    return Cut({{.pattern = "-", .literal = true, .behavior = behavior, .invert = invert}},
               "the-final--countdown");
  };
  EXPECT_EQ(cut(Behavior::kIsolated), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(cut(Behavior::kRemoved), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(cut(Behavior::kMergedWithPrevious), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(cut(Behavior::kMergedWithNext), (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(cut(Behavior::kContiguous), (Pieces{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(cut(Behavior::kRemoved, true), (Pieces{"-", "-", "-"}));
}

TEST(PreTokenizeTest, EscapesForWhiteSpaceAreUnicodes) {
  // U+0085 is white space, U+180E and U+200B are not.
  EXPECT_EQ(Cut({{.pattern = R"(\s+)"}}, "a\xc2\x85 b"), (Pieces{"a", "\xc2\x85 ", "b"}));
  EXPECT_EQ(Cut({{.pattern = R"([^\s]+)"}}, "a\xc2\x85"), (Pieces{"a", "\xc2\x85"}));
  EXPECT_EQ(Cut({{.pattern = R"(\S+)"}}, "a\xe2\x80\x8b b"), (Pieces{"a\xe2\x80\x8b", " ", "b"}));
  EXPECT_EQ(Cut({{.pattern = R"([\[\]\s]+)"}}, "a[ ]b"), (Pieces{"a", "[ ]", "b"}));
}

}  // namespace
}  // namespace lectern
