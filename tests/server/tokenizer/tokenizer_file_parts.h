// Small vocabularies in every format, made by tests.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

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
