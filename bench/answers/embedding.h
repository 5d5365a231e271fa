// Sentence embeddings by a BERT encoder: the mean of its last states over all tokens of
// "[CLS] text [SEP]", normalised (Reimers and Gurevych 2019, arXiv 1908.10084).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/model/loading/model_loader.h"
#include "server/model/model.h"

namespace lectern {

class Embedder {
 public:
  // A Hugging Face folder of a BertModel. Errors are LoadModel's.
  static absl::StatusOr<std::unique_ptr<Embedder>> Load(const std::string& folder,
                                                        ModelLoadOptions::Numerics numerics,
                                                        int threads);

  std::vector<int32_t> Ids(std::string_view text) const {
    return model_->EncoderPromptOf(text).before;
  }
  // INVALID_ARGUMENT for a text of more tokens than the model's window.
  absl::StatusOr<std::vector<float>> Embed(std::string_view text,
                                           const AttentionPolicy& policy) const;

 private:
  Embedder(std::shared_ptr<const Model> model, int64_t hidden)
      : model_(std::move(model)), hidden_(hidden), workspace_(model_->NewWorkspace()) {}

  const std::shared_ptr<const Model> model_;
  const int64_t hidden_;
  const std::unique_ptr<Workspace> workspace_;
};

// Of two normalised embeddings.
double Cosine(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace lectern
