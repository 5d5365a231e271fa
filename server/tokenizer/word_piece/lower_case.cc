#include "server/tokenizer/word_piece/lower_case.h"

#include <utf8proc.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/utf8.h"
#include "server/tokenizer/text/unicode.h"

namespace lectern {
namespace {

std::string LowerCased(std::string_view text) {
  std::string lower(text);
  for (size_t at = 0; at < lower.size();) {
    const size_t length = Utf8CharLength(std::string_view(lower).substr(at));
    if (length == 0) {
      ++at;
      continue;
    }
    utf8proc_int32_t character = 0;
    auto* bytes = reinterpret_cast<utf8proc_uint8_t*>(lower.data() + at);
    utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(length), &character);
    const std::u32string changed = Lower(static_cast<char32_t>(character));
    std::array<utf8proc_uint8_t, 4> encoded = {};
    const utf8proc_ssize_t size =
        changed.size() == 1
            ? utf8proc_encode_char(static_cast<utf8proc_int32_t>(changed[0]), encoded.data())
            : 0;
    if (size == static_cast<utf8proc_ssize_t>(length)) std::memcpy(bytes, encoded.data(), length);
    at += length;
  }
  return lower;
}

class LowerCase : public Tokenizer {
 public:
  explicit LowerCase(std::unique_ptr<Tokenizer> inner) : inner_(std::move(inner)) {}

  int32_t vocab_size() const override { return inner_->vocab_size(); }
  int32_t eos_id() const override { return inner_->eos_id(); }
  int32_t bos_id() const override { return inner_->bos_id(); }
  bool adds_bos() const override { return inner_->adds_bos(); }
  int32_t FindToken(std::string_view text) const override { return inner_->FindToken(text); }
  Encoding Encode(std::string_view text, bool parse_special) const override {
    return inner_->Encode(LowerCased(text), parse_special);
  }
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    return inner_->Decode(ids, skip_special);
  }
  bool IsSpecial(int32_t id) const override { return inner_->IsSpecial(id); }
  size_t longest_token_bytes() const override { return inner_->longest_token_bytes(); }
  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return inner_->NewStreamDecoder();
  }

 private:
  const std::unique_ptr<Tokenizer> inner_;
};

}  // namespace

std::unique_ptr<Tokenizer> NewLowerCase(std::unique_ptr<Tokenizer> inner) {
  return std::make_unique<LowerCase>(std::move(inner));
}

}  // namespace lectern
