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

Pieces Cut(PreTokenizer kind, const std::string& text) {
  const auto cutter = PreTokenize::Create(kind);
  EXPECT_TRUE(cutter.ok()) << cutter.status();
  Pieces pieces;
  (*cutter)->Cut(
      text, [&](size_t begin, size_t end) { pieces.push_back(text.substr(begin, end - begin)); });
  return pieces;
}

TEST(PreTokenizeTest, CutsAsGpt2Does) {
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "Hello world's  end\n\n"),
            (Pieces{"Hello", " world", "'s", " ", " end", "\n\n"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "it'll I'VE 12ab"),
            (Pieces{"it", "'ll", " I", "'", "VE", " 12", "ab"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "  \t x"), (Pieces{"  \t", " x"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80!"),
            (Pieces{"caf\xc3\xa9", " \xe6\xbc\xa2\xe5\xad\x97", " \xf0\x9f\x98\x80!"}));
}

TEST(PreTokenizeTest, NumbersStandAlone) {
  EXPECT_EQ(Cut(PreTokenizer::kSmolLm, "a 12  3"), (Pieces{"a", " ", "1", "2", "  ", "3"}));
  EXPECT_EQ(Cut(PreTokenizer::kSmolLm, "x \xc2\xbd\xd9\xa3 \xe2\x85\xa7"),
            (Pieces{"x", " ", "\xc2\xbd", "\xd9\xa3", " ", "\xe2\x85\xa7"}));
  EXPECT_EQ(Cut(PreTokenizer::kSmolLm, "  7"), (Pieces{"  ", "7"}));
}

// Unicode's White_Space and no other: U+180E, U+200B and U+001F are not in it.
TEST(PreTokenizeTest, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "a\xe1\xa0\x8e!"), (Pieces{"a", "\xe1\xa0\x8e!"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2,
                "a \xe1\xa0\x8e"
                "b"),
            (Pieces{"a", " \xe1\xa0\x8e", "b"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "a\xe2\x80\x8b!"), (Pieces{"a", "\xe2\x80\x8b!"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "a\xc2\xa0\xe2\x80\x83 b"),
            (Pieces{"a", "\xc2\xa0\xe2\x80\x83", " b"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2,
                "a\xc2\x85\xe3\x80\x80"
                "b"),
            (Pieces{"a", "\xc2\x85", "\xe3\x80\x80", "b"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2, "a \x1f b"), (Pieces{"a", " \x1f", " b"}));
  EXPECT_EQ(Cut(PreTokenizer::kGpt2,
                "a \xe1\x9a\x80\xe2\x80\xaf\xe2\x81\x9f\xe2\x80\xa8"
                "b"),
            (Pieces{"a", " \xe1\x9a\x80\xe2\x80\xaf\xe2\x81\x9f", "\xe2\x80\xa8", "b"}));
}

TEST(PreTokenizeTest, NoCutting) {
  EXPECT_EQ(Cut(PreTokenizer::kNone, "a b 12"), Pieces{"a b 12"});
  EXPECT_EQ(Cut(PreTokenizer::kNone, ""), Pieces{});
}

}  // namespace
}  // namespace lectern
