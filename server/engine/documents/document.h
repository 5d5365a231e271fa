// A document as the engine holds it: text, tokens, sentences, the parts it is read in, and the
// pages of their keys and values.
//
// A document is read whole (one part: all its tokens) or in chunks (parts of bounded length, cut at
// sentence ends, each of them a separate prompt whose positions begin at 0). Every part is read
// after the prompt's prefix: the pages of a part hold the prefix and the part's tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/engine/api.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/engine/text/lexical_index.h"
#include "server/engine/text/sentences.h"
#include "server/model/model.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// Tokens [begin, end) of a document's encoding.
struct TokenRange {
  size_t begin = 0;
  size_t end = 0;
  size_t size() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
};

// The immutable part of a document. Shared.
struct DocumentContent {
  std::string id;
  std::string sha256;
  std::shared_ptr<const Model> model;
  std::string text;
  std::vector<int32_t> prefix;  // tokens before the document in the prompt
  Encoding encoding;            // of the text
  std::vector<ByteRange> sentences;
  std::vector<TokenRange> chunks;             // cover every token, in order
  std::shared_ptr<const LexicalIndex> words;  // of the chunks

  // The parts that the document is read in; `reading` is kWhole or kChunks.
  std::vector<TokenRange> Parts(ReadingMode reading) const;
  // The number of tokens of all parts, each with the prefix.
  uint64_t PromptTokens(ReadingMode reading) const;
  // Resolves kAuto: whole up to the length of a chunk, in chunks beyond it.
  ReadingMode Resolve(ReadingMode reading) const;
  // The prefix followed by the part's tokens.
  std::vector<int32_t> Prompt(const TokenRange& part) const;
  size_t PromptSize(const TokenRange& part) const { return prefix.size() + part.size(); }
};

// The keys and values of a document under one policy and reading. Immutable once computed. Models
// that read question and document together keep none.
struct DocumentKv {
  AttentionPolicy policy;
  ReadingMode reading = ReadingMode::kWhole;  // or kChunks
  std::vector<PageSet> parts;                 // one for each of DocumentContent::Parts(reading)

  uint64_t bytes() const;
};

// Chunks are read best at about this length by small models (docs/measurements/quality.md).
inline constexpr size_t kChunkTokens = 2000;

// DocumentIdOf() (protocol/document_id.h).
std::string DocumentId(const Model& model, const std::string& text_sha256);

// Chunks of at most `chunk_tokens` tokens that end where a sentence does; a sentence longer than
// that is cut. A token belongs to the sentence of its last byte.
std::vector<TokenRange> CutIntoChunks(const Encoding& encoding,
                                      std::span<const ByteRange> sentences, size_t chunk_tokens);

// The length of a model's chunks: kChunkTokens, or half of a shorter context length; for an
// encoder, three quarters of the context length.
size_t ChunkTokens(const ModelInfo& model);

// Computes tokens, sentences and chunks of a text, whose digest is `sha256`. Takes as long as
// tokenising does. May be called on any thread.
std::shared_ptr<const DocumentContent> PrepareContent(std::shared_ptr<const Model> model,
                                                      std::string text, std::string sha256);

}  // namespace lectern
