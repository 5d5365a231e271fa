#include "server/tokenizer/unigram/charsmap.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

static_assert(std::endian::native == std::endian::little, "character maps are little-endian");

// The fields of a unit of the double array.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFFu; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FFu; }
uint32_t Offset(uint32_t unit) { return unit >> 10 << ((unit & 0x200u) >> 6); }

// Marks for nodes whose height is unknown, and for those on the path to the current node.
constexpr uint8_t kUnseen = 255;
constexpr uint8_t kOpen = 254;
static_assert(kMaxCharsmapKeyBytes < kOpen);

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Create(std::string_view bytes) {
  Charsmap map;
  if (bytes.empty()) return map;
  if (bytes.size() > kMaxCharsmapBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes.size(), " bytes, at most ", kMaxCharsmapBytes, " are allowed"));
  }
  uint32_t trie_bytes = 0;
  if (bytes.size() < sizeof(trie_bytes)) return absl::InvalidArgumentError("breaks off");
  std::memcpy(&trie_bytes, bytes.data(), sizeof(trie_bytes));
  bytes.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a trie of ", trie_bytes, " bytes in ", bytes.size()));
  }
  map.units_.resize(trie_bytes / 4);
  std::memcpy(map.units_.data(), bytes.data(), trie_bytes);
  map.replacements_ = std::string(bytes.substr(trie_bytes));
  std::vector<uint8_t> heights(map.units_.size(), kUnseen);
  const uint32_t root = Offset(map.units_[0]);
  if (root >= map.units_.size()) {
    return absl::InvalidArgumentError("the trie leads out of its array");
  }
  LECTERN_RETURN_IF_ERROR(map.Check(root, 0, heights));
  return map;
}

// `base` is where the children of a node begin: child c is the unit at base ^ c, if it is labelled
// c. Nodes may be shared, so each is visited once and its height (bytes below it) is stored.
absl::Status Charsmap::Check(uint32_t base, size_t depth, std::vector<uint8_t>& heights) const {
  heights[base] = kOpen;
  uint8_t height = 0;
  for (uint32_t byte = 1; byte < 256; ++byte) {  // keys hold no zero byte; the value is there
    const uint32_t at = base ^ byte;
    if (at >= units_.size() || Label(units_[at]) != byte) continue;
    const uint32_t next = at ^ Offset(units_[at]);
    if (next >= units_.size()) {
      return absl::InvalidArgumentError("the trie leads out of its array");
    }
    if (heights[next] == kOpen) return absl::InvalidArgumentError("the trie leads in a circle");
    if (HasLeaf(units_[at])) {
      const uint32_t value = Value(units_[next]);
      const size_t end =
          value < replacements_.size() ? replacements_.find('\0', value) : std::string::npos;
      if (end == std::string::npos) {
        return absl::InvalidArgumentError("a replacement lies outside its part");
      }
      if (end - value > kMaxReplacementBytes) {
        return absl::InvalidArgumentError(
            absl::StrCat("a replacement is longer than ", kMaxReplacementBytes, " bytes"));
      }
      if (!IsValidUtf8(std::string_view(replacements_).substr(value, end - value))) {
        return absl::InvalidArgumentError("a replacement is not UTF-8");
      }
    }
    if (heights[next] == kUnseen && depth + 1 <= kMaxCharsmapKeyBytes) {
      LECTERN_RETURN_IF_ERROR(Check(next, depth + 1, heights));
    }
    if (depth + 1 + heights[next] > kMaxCharsmapKeyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a key is longer than ", kMaxCharsmapKeyBytes, " bytes"));
    }
    height = std::max<uint8_t>(height, heights[next] + 1);
  }
  heights[base] = height;
  return absl::OkStatus();
}

Charsmap::Match Charsmap::LongestPrefix(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  size_t position = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char byte = static_cast<unsigned char>(text[i]);
    position ^= byte;
    if (byte == 0 || position >= units_.size() || Label(units_[position]) != byte) break;
    const uint32_t unit = units_[position];
    position ^= Offset(unit);
    if (HasLeaf(unit) && IsUtf8Boundary(text, i + 1)) {
      match.length = i + 1;
      match.replacement = replacements_.c_str() + Value(units_[position]);
    }
  }
  return match;
}

AlignedText Charsmap::Apply(const AlignedText& text) const {
  AlignedText out;
  out.Reserve(text.size());
  const std::string_view bytes = text.text();
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view rest = bytes.substr(at);
    const Match match = LongestPrefix(rest);
    if (match.length > 0) {
      out.AppendFor(match.replacement, text, at, match.length);
      at += match.length;
    } else {
      const size_t length = Utf8CharLength(rest);
      out.AppendFor(rest.substr(0, length), text, at, length);
      at += length;
    }
  }
  return out;
}

}  // namespace lectern
