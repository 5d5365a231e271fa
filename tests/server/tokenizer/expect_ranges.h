// Checks the guarantees of every tokenizer about the ranges of its tokens.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/utf8.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern::test {

// Ranges ascend, lie inside the text and, where it is well-formed and tokens are not bytes, on
// boundaries of its characters.
inline void ExpectSoundRanges(const std::string& text, const Encoding& e,
                              bool may_be_bytes = false) {
  ASSERT_EQ(e.begin.size(), e.ids.size());
  ASSERT_EQ(e.end.size(), e.ids.size());
  const bool valid = !may_be_bytes && IsValidUtf8(text);
  uint32_t last_begin = 0, last_end = 0;
  for (size_t i = 0; i < e.ids.size(); ++i) {
    ASSERT_LE(last_begin, e.begin[i]) << text;
    ASSERT_LE(last_end, e.end[i]) << text;
    ASSERT_LE(e.begin[i], e.end[i]) << text;
    ASSERT_LE(e.end[i], text.size()) << text;
    if (valid) {
      ASSERT_TRUE(IsUtf8Boundary(text, e.begin[i]) && IsUtf8Boundary(text, e.end[i])) << text;
    }
    last_begin = e.begin[i];
    last_end = e.end[i];
  }
}

// Decoding at once and in a stream are the same.
inline void ExpectStreamDecodes(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const auto stream = tokenizer.NewStreamDecoder();
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = stream->Append(id);
    ASSERT_TRUE(IsValidUtf8(part));
    text += part;
  }
  text += stream->Finish();
  EXPECT_EQ(text, tokenizer.Decode(ids, /*skip_special=*/true));
}

// Words, odd spaces, marks, ligatures, surrogates in UTF-8, cut characters.
inline std::string OddText(std::mt19937& random) {
  static const std::string kParts[] = {
      "the ",         "lamp",         " ",        "  ",           "\n",
      "\t",           "1234",         "xxx",      "\xc3\xa9",     "e\xcc\x81",
      "\xef\xac\x81", "\xc2\xbd",     "\xc4\xb0", "\xe4\xb8\xad", "\xf0\x9f\x98\x80",
      "\xe2\x96\x81", "\xe3\x80\x80", "</s>",     "[SEP]",        std::string(1, '\0'),
      "\xff",         "\xed\xa0\x80", "\xe4\xb8", "\xef\xb7\xba", "A.B,"};
  std::string text;
  for (int n = random() % 25; n > 0; --n) text += kParts[random() % std::size(kParts)];
  return text;
}

}  // namespace lectern::test
