#include "server/engine/documents/document.h"

#include <algorithm>
#include <utility>

#include "protocol/document_id.h"
#include "server/engine/model_kind.h"

namespace lectern {

std::vector<TokenRange> DocumentContent::Parts(ReadingMode reading) const {
  if (reading == ReadingMode::kChunks) return chunks;
  return {{0, encoding.ids.size()}};
}

uint64_t DocumentContent::PromptTokens(ReadingMode reading) const {
  const size_t parts = reading == ReadingMode::kChunks ? chunks.size() : 1;
  return parts * prefix.size() + encoding.ids.size();
}

ReadingMode DocumentContent::Resolve(ReadingMode reading) const {
  if (reading != ReadingMode::kAuto) return reading;
  return chunks.size() > 1 ? ReadingMode::kChunks : ReadingMode::kWhole;
}

std::vector<int32_t> DocumentContent::Prompt(const TokenRange& part) const {
  std::vector<int32_t> prompt = prefix;
  prompt.insert(prompt.end(), encoding.ids.begin() + static_cast<std::ptrdiff_t>(part.begin),
                encoding.ids.begin() + static_cast<std::ptrdiff_t>(part.end));
  return prompt;
}

uint64_t DocumentKv::bytes() const {
  uint64_t bytes = 0;
  for (const PageSet& part : parts) bytes += part.bytes();
  return bytes;
}

std::string DocumentId(const Model& model, const std::string& text_sha256) {
  return DocumentIdOf(model.info().fingerprint, text_sha256);
}

std::vector<TokenRange> CutIntoChunks(const Encoding& encoding,
                                      std::span<const ByteRange> sentences, size_t chunk_tokens) {
  std::vector<TokenRange> chunks;
  const size_t tokens = encoding.ids.size();
  size_t sentence = 0, begin = 0;
  while (begin < tokens) {
    // Take the longest run that fits, and cut it at the last sentence end in it.
    size_t end = std::min(tokens, begin + chunk_tokens);
    if (end < tokens) {
      size_t cut = begin;
      for (size_t token = begin; token < end; ++token) {
        while (sentence < sentences.size() && sentences[sentence].end <= encoding.end[token]) {
          ++sentence;
          cut = token + 1;
        }
      }
      if (cut > begin) end = cut;
    }
    chunks.push_back({begin, end});
    begin = end;
  }
  return chunks;
}

size_t ChunkTokens(const ModelInfo& model) {
  if (!KeepsKv(model)) {
    // The rest of the context length is for the question.
    return static_cast<size_t>(std::max<int64_t>(model.context_length * 3 / 4, 1));
  }
  return std::min<size_t>(kChunkTokens,
                          static_cast<size_t>(std::max<int64_t>(model.context_length / 2, 1)));
}

namespace {

std::shared_ptr<const LexicalIndex> IndexChunks(const DocumentContent& content) {
  std::vector<std::string_view> texts;
  for (const TokenRange& chunk : content.chunks) {
    const size_t begin = content.encoding.begin[chunk.begin];
    const size_t end = content.encoding.end[chunk.end - 1];
    texts.push_back(std::string_view(content.text).substr(begin, end - begin));
  }
  return std::make_shared<LexicalIndex>(texts);
}

}  // namespace

std::shared_ptr<const DocumentContent> PrepareContent(std::shared_ptr<const Model> model,
                                                      std::string text, std::string sha256) {
  auto content = std::make_shared<DocumentContent>();
  content->id = DocumentId(*model, sha256);
  content->sha256 = std::move(sha256);
  content->text = std::move(text);
  content->encoding = model->tokenizer().Encode(content->text, /*parse_special=*/false);
  content->prefix = model->PromptPrefix();
  content->sentences = SplitSentences(content->text);
  content->chunks =
      CutIntoChunks(content->encoding, content->sentences, ChunkTokens(model->info()));
  content->words = IndexChunks(*content);
  content->model = std::move(model);
  return content;
}

}  // namespace lectern
