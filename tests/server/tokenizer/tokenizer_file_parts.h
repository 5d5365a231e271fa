// Small vocabularies in every format, made by tests.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/tokenizer/bpe/byte_alphabet.h"
#include "tests/server/formats/model_files.h"

namespace lectern::test {

// Fields of the protobuf wire format.
inline std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
inline std::string NumberField(int field, uint64_t value) {
  return Varint(field << 3) + Varint(value);
}
inline std::string BytesField(int field, const std::string& bytes) {
  return Varint(field << 3 | 2) + Varint(bytes.size()) + bytes;
}
inline std::string FloatField(int field, float value) { return Varint(field << 3 | 5) + Le(value); }

inline std::string SpiecePiece(const std::string& text, float score, int type) {
  return BytesField(
      1, BytesField(1, text) + FloatField(2, score) + (type == 1 ? "" : NumberField(3, type)));
}

// <pad> </s> <unk> _ _a a b ab
inline std::string SpiecePieces() {
  return SpiecePiece("<pad>", 0, 3) + SpiecePiece("</s>", 0, 3) + SpiecePiece("<unk>", 0, 2) +
         SpiecePiece("\xe2\x96\x81", -2, 1) +
         SpiecePiece(
             "\xe2\x96\x81"
             "a",
             -3, 1) +
         SpiecePiece("a", -3, 1) + SpiecePiece("b", -3, 1) + SpiecePiece("ab", -4.5, 1);
}
inline std::string SpieceTrainer() {
  return NumberField(3, 1) + NumberField(40, 2) + NumberField(41, ~uint64_t{0}) +
         NumberField(42, 1) + NumberField(43, 0);
}
inline std::string SpieceModel() {
  return SpiecePieces() + BytesField(2, SpieceTrainer()) +
         BytesField(3, BytesField(1, "identity") + NumberField(3, 1) + NumberField(5, 1));
}

// SpiecePieces() as a model of type BPE, with <bos> in place of <pad>.
inline std::string SpieceBpeModel() {
  std::string pieces = SpiecePieces();
  pieces.replace(pieces.find("<pad>"), 5, "<bos>");
  return pieces + BytesField(2, NumberField(3, 2) + NumberField(41, 0) + NumberField(42, 1)) +
         BytesField(3, BytesField(1, "identity") + NumberField(3, 1) + NumberField(4, 0) +
                           NumberField(5, 1));
}

// BPE over characters, as of Llama 2: <unk> <s> </s>, 256 bytes, then _ a b _a ab _ab and a token
// that is not special.
inline nlohmann::json CharacterBpeJson() {
  nlohmann::json root = nlohmann::json::parse(R"({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                     {"id": 1, "content": "<s>", "special": true},
                     {"id": 2, "content": "</s>", "special": true, "rstrip": true},
                     {"id": 265, "content": "<t>", "special": false, "single_word": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
              "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 259, "a": 260, "b": 261,
                        "\u2581a": 262, "ab": 263, "\u2581ab": 264},
              "merges": [["\u2581", "a"], ["a", "b"], ["\u2581a", "b"]]}})");
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    const std::string token = {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
    root["model"]["vocab"][token] = 3 + byte;
  }
  return root;
}

// BPE over bytes, as of Llama 3: the bytes, then "ab" and two added tokens.
inline nlohmann::json ByteBpeJson() {
  nlohmann::json root = nlohmann::json::parse(R"({
    "added_tokens": [{"id": 257, "content": "<|end|>", "special": true},
                     {"id": 258, "content": "<t>", "special": false, "lstrip": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},
         "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
    "post_processor": {"type": "ByteLevel"},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "ignore_merges": true, "vocab": {}, "merges": ["a b"]}})");
  for (int byte = 0; byte < 256; ++byte) root["model"]["vocab"][ByteAlphabet()[byte]] = byte;
  root["model"]["vocab"]["ab"] = 256;
  return root;
}

inline nlohmann::json UnigramJson() {
  return nlohmann::json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 0, "content": "<pad>", "special": true},
                     {"id": 1, "content": "</s>", "special": true},
                     {"id": 2, "content": "<unk>", "special": true},
                     {"id": 8, "content": "<extra_id_0>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Lowercase"},
        {"type": "Strip", "strip_left": false, "strip_right": true},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": true},
    "post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
    "decoder": {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": true},
    "model": {"type": "Unigram", "unk_id": 2, "vocab": [
        ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -2.0], ["\u2581a", -3.0],
        ["a", -3.0], ["b", -3.0], ["ab", -4.5]]}})");
}

inline nlohmann::json WordPieceJson() {
  return nlohmann::json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 0, "content": "[UNK]", "special": true},
                     {"id": 5, "content": "[SEP]", "special": true}],
    "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 5], "cls": ["[UNK]", 0]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100,
              "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "b": 3, "##a": 4}}})");
}

}  // namespace lectern::test
