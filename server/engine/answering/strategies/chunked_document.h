// Answers from a document that a decoder reads in chunks: the question is put to the likely chunks
// in one batch, and the answer is read from the sentences that it attended to (chunk_reading.h).
#pragma once

#include <memory>
#include <vector>

#include "server/engine/answering/strategies/decoder_strategy.h"

namespace lectern {

class ChunkedDocument : public DecoderStrategy {
 public:
  ChunkedDocument(AnswerRun& run, QuestionSuffix suffix)
      : DecoderStrategy(run, std::move(suffix)) {}

  Task<absl::Status> Prefill() override;

 private:
  // The question after one chunk.
  struct Search {
    size_t chunk = 0;
    Sequence sequence;
    // Attention to each key: of the frame before the question, and of the question's own words.
    std::vector<float> frame_mass;
    std::vector<float> question_mass;
  };

  // Puts the question to the likely chunks and ranks the document's sentences.
  Task<absl::Status> SearchChunks(std::shared_ptr<const DocumentKv> document);
  // Allocates a sequence for each chunk that is searched.
  Task<absl::StatusOr<std::vector<Search>>> BeginSearches(
      std::shared_ptr<const DocumentKv> document);
  void AddMass(const Search& search, std::vector<float>& token_mass) const;
  // Begins the sequence that the answer continues: the best sentences and the question, after the
  // prefix that every part of the document begins with.
  Task<absl::Status> ReadAgain(std::shared_ptr<const DocumentKv> document);
};

}  // namespace lectern
