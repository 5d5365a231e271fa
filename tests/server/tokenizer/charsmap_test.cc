// Precompiled character maps: hand-made double arrays, sound and hostile, and the real one of
// golden/t5_tiny damaged at random.
#include "server/tokenizer/unigram/charsmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

// A unit that is reached by `label` and whose children are at its position ^ `offset`.
uint32_t Unit(unsigned char label, uint32_t offset, bool leaf) {
  return offset << 10 | uint32_t{leaf} << 8 | label;
}
uint32_t Value(uint32_t value) { return value | 0x80000000u; }

std::string Bytes(const std::vector<uint32_t>& units, const std::string& replacements) {
  const uint32_t size = static_cast<uint32_t>(units.size() * 4);
  std::string bytes(4 + size, '\0');
  std::memcpy(bytes.data(), &size, 4);
  std::memcpy(bytes.data() + 4, units.data(), size);
  return bytes + replacements;
}

// "a" becomes the text at `value`. The children of the root begin at 256, those of "a" at 512.
std::vector<uint32_t> OneKey(uint32_t value) {
  std::vector<uint32_t> units(1024);
  units[0] = Unit(0, 256, false);
  units[256 ^ 'a'] = Unit('a', (256 ^ 'a') ^ 512, true);
  units[512] = Value(value);
  return units;
}

const std::string kText("xyz\0\xc3\xa9\0", 7);

TEST(CharsmapTest, ReplacesTheLongestKey) {
  std::vector<uint32_t> units = OneKey(0);
  units[512 ^ 'b'] = Unit('b', (512 ^ 'b') ^ 768, true);
  units[768] = Value(4);
  const auto map = Charsmap::Create(Bytes(units, kText));
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->LongestPrefix("ac").replacement, "xyz");
  EXPECT_EQ(map->LongestPrefix("abc").length, 2u);
  EXPECT_EQ(map->LongestPrefix("c").length, 0u);
  EXPECT_EQ(map->LongestPrefix("").length, 0u);
  const AlignedText out = map->Apply(AlignedText("cabda"));
  EXPECT_EQ(out.text(),
            "c\xc3\xa9"
            "dxyz");
  EXPECT_EQ(out.begin(1), 1u);
  EXPECT_EQ(out.end(1), 3u);
  EXPECT_EQ(out.begin(6), 4u);
  EXPECT_EQ(out.end(6), 5u);
}

TEST(CharsmapTest, KeysOfHalfACharacterNeverMatch) {
  std::vector<uint32_t> units(1024);
  units[0] = Unit(0, 256, false);
  units[256 ^ 0xc3] = Unit(0xc3, (256 ^ 0xc3) ^ 512, true);
  units[512] = Value(0);
  const auto map = Charsmap::Create(Bytes(units, kText));
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->Apply(AlignedText("\xc3\xa9")).text(), "\xc3\xa9");
}

TEST(CharsmapTest, NoneReplacesNothing) {
  const auto map = Charsmap::Create("");
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->Apply(AlignedText("a b")).text(), "a b");
}

void ExpectBad(const std::string& bytes, const char* why) {
  const auto map = Charsmap::Create(bytes);
  EXPECT_EQ(map.status().code(), absl::StatusCode::kInvalidArgument) << why;
  EXPECT_THAT(std::string(map.status().message()), testing::HasSubstr(why));
}

TEST(CharsmapTest, HostileMapsAreRefused) {
  ExpectBad("abc", "breaks off");
  ExpectBad(std::string(8, '\0'), "a trie of 0 bytes");
  ExpectBad(std::string("\3\0\0\0abcd", 8), "a trie of 3 bytes");
  ExpectBad(std::string(8, '\xff'), "a trie of 4294967295 bytes");
  ExpectBad(std::string(kMaxCharsmapBytes + 1, 'x'), "at most");
  ExpectBad(Bytes({Unit(0, 1 << 20, false)}, kText), "out of its array");
  ExpectBad(Bytes(OneKey(7), kText), "outside its part");
  ExpectBad(Bytes(OneKey(0x7fffffff), kText), "outside its part");
  ExpectBad(Bytes(OneKey(0), "no zero byte"), "outside its part");
  ExpectBad(Bytes(OneKey(0), std::string("\xff\0", 2)), "not UTF-8");
  ExpectBad(Bytes(OneKey(5), kText), "not UTF-8");
  ExpectBad(Bytes(OneKey(0), std::string(kMaxReplacementBytes + 1, 'x') + '\0'), "longer than 128");

  std::vector<uint32_t> out = OneKey(0);
  out[256 ^ 'a'] = Unit('a', 1 << 20, true);
  ExpectBad(Bytes(out, kText), "out of its array");
  std::vector<uint32_t> circle = OneKey(0);
  circle[256 ^ 'a'] = Unit('a', 'a', false);  // its children are the root's
  ExpectBad(Bytes(circle, kText), "in a circle");

  std::vector<uint32_t> deep(256 * (kMaxCharsmapKeyBytes + 4));
  deep[0] = Unit(0, 256, false);
  for (uint32_t i = 1; i < kMaxCharsmapKeyBytes + 2; ++i) {
    const uint32_t at = 256 * i ^ 'a';
    deep[at] = Unit('a', at ^ (256 * (i + 1)), false);
  }
  ExpectBad(Bytes(deep, kText), "a key is longer than 128");
}

// Every node leads to the next by all bytes at once: 256^n ways, walked once each.
TEST(CharsmapTest, SharedNodesAreWalkedOnce) {
  constexpr uint32_t kNodes = 100;
  std::vector<uint32_t> units(256 * (kNodes + 2));
  units[0] = Unit(0, 256, false);
  for (uint32_t i = 1; i <= kNodes; ++i) {
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const uint32_t at = 256 * i ^ byte;
      units[at] = Unit(static_cast<unsigned char>(byte), at ^ (256 * (i + 1)), false);
    }
  }
  EXPECT_TRUE(Charsmap::Create(Bytes(units, kText)).ok());
}

TEST(CharsmapTest, RandomMapsNeverLeadOutside) {
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint32_t> units = OneKey(0);
    for (int n = random() % 60; n > 0; --n) {
      const uint32_t at = random() % units.size();
      units[at] = Unit(static_cast<unsigned char>(at), random() % 1024, random() % 2);
    }
    const auto map = Charsmap::Create(Bytes(units, kText));
    if (!map.ok()) continue;
    std::string text;
    for (int n = 0; n < 30; ++n) text += static_cast<char>(random() % 128);
    EXPECT_LE(map->Apply(AlignedText(text)).size(), text.size() * kMaxReplacementBytes);
  }
}

}  // namespace
}  // namespace lectern
