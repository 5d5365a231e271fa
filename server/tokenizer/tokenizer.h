// Converts text to token ids and back. A pure interface; bpe, unigram and word_piece implement it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lectern {

// Token ids of a text and, for each token, the half-open byte range of the input it represents.
// Ranges are ascending and lie inside the text; a byte that has no token belongs to no range.
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<uint32_t> begin;  // byte offset of the first byte of each token
  std::vector<uint32_t> end;    // one past its last byte
};

// Turns a stream of ids into text that is released only in whole UTF-8 characters. Special tokens
// yield nothing; an invalid byte becomes U+FFFD as soon as it is known to be invalid. One per
// answer; not thread-safe; must not outlive its tokenizer.
class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;
  // Returns the text that is complete after this id; may be empty.
  virtual std::string Append(int32_t id) = 0;
  // Returns the remaining text at the end (an unfinished character becomes U+FFFD).
  virtual std::string Finish() = 0;
};

// Immutable after construction; all methods may be called from any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int32_t vocab_size() const = 0;
  // The id that ends an answer; -1 if the vocabulary has none.
  virtual int32_t eos_id() const = 0;
  // The id that begins a sequence; -1 if the vocabulary names none.
  virtual int32_t bos_id() const { return -1; }
  // True if the vocabulary asks for bos_id() at the beginning of a sequence. Encode never adds it:
  // a prompt consists of several texts and begins only once.
  virtual bool adds_bos() const { return false; }
  // The id of the token that the vocabulary writes as `text` ("<|im_end|>"); -1 if there is none.
  virtual int32_t FindToken(std::string_view text) const = 0;

  // `text` should be UTF-8; ill-formed parts are read as U+FFFD. With `parse_special`, special
  // tokens written out in the text become their ids; without, they are ordinary text (documents and
  // questions are always encoded without, so that they cannot forge a chat turn).
  virtual Encoding Encode(std::string_view text, bool parse_special) const = 0;

  // The text of all ids at once; `skip_special` leaves special tokens out.
  virtual std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const = 0;

  virtual bool IsSpecial(int32_t id) const = 0;

  // The largest number of bytes that a token of a well-formed text represents; 0 if some bytes have
  // no token, so that the number of tokens gives no bound.
  virtual size_t longest_token_bytes() const = 0;

  virtual std::unique_ptr<StreamDecoder> NewStreamDecoder() const = 0;
};

}  // namespace lectern
