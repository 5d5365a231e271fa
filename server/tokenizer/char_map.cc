#include "server/tokenizer/char_map.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

// Sequences are a handful of characters; a trie that goes on for longer is not one of these.
constexpr size_t kLongestSequence = 128;

// A unit of a Darts-clone double array.
bool HasLeaf(uint32_t unit) { return ((unit >> 8) & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7fffffffu; }
uint32_t Label(uint32_t unit) { return unit & (0x80000000u | 0xffu); }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

}  // namespace

absl::StatusOr<CharMap> CharMap::Parse(std::string_view blob) {
  CharMap map;
  if (blob.empty()) return map;
  uint32_t size = 0;
  if (blob.size() < sizeof(size)) return absl::InvalidArgumentError("ends inside its size");
  std::memcpy(&size, blob.data(), sizeof(size));
  blob.remove_prefix(sizeof(size));
  if (size > blob.size() || size % sizeof(uint32_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("says that its trie has ", size, " bytes; there are ", blob.size()));
  }
  map.units_.resize(size / sizeof(uint32_t));
  std::memcpy(map.units_.data(), blob.data(), size);
  map.replacements_ = blob.substr(size);
  if (!map.replacements_.empty() && map.replacements_.back() != '\0') {
    return absl::InvalidArgumentError("ends inside a replacement");
  }
  return map;
}

CharMap::Match CharMap::LongestAt(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  uint32_t at = Offset(units_[0]);
  const size_t most = std::min(text.size(), kLongestSequence);
  for (size_t i = 0; i < most; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || Label(units_[at]) != byte) break;
    const bool leaf = HasLeaf(units_[at]);
    at ^= Offset(units_[at]);
    if (!leaf) continue;
    if (at >= units_.size()) break;
    const uint32_t value = Value(units_[at]);
    if (value >= replacements_.size()) break;
    match = {i + 1, std::string_view(replacements_.c_str() + value)};
  }
  return match;
}

}  // namespace lectern
