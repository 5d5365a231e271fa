#include "bench/answers/embedding.h"

#include <cmath>
#include <utility>

#include "base/status_macros.h"
#include "server/model/bert/bert_config.h"
#include "server/model/bert/load_bert.h"
#include "server/model/model_files.h"

namespace lectern {

absl::StatusOr<std::unique_ptr<Embedder>> Embedder::Load(const std::string& folder,
                                                         ModelLoadOptions::Numerics numerics,
                                                         int threads) {
  LECTERN_ASSIGN_OR_RETURN(
      auto model,
      LoadBertFolder({.name = "encoder", .path = folder, .numerics = numerics, .threads = threads},
                     /*encoder_alone=*/true));
  const std::string config_path = folder + "/config.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string json, ReadTextFile(config_path));
  LECTERN_ASSIGN_OR_RETURN(const BertConfig config, ReadBertConfig(json, config_path));
  return std::unique_ptr<Embedder>(new Embedder(std::move(model), config.hidden));
}

absl::StatusOr<std::vector<float>> Embedder::Embed(std::string_view text,
                                                   const AttentionPolicy& policy) const {
  const std::vector<int32_t> ids = Ids(text);
  std::vector<float> states(ids.size() * hidden_);
  ForwardSlice slice;
  slice.tokens = ids;
  slice.policy = &policy;
  slice.encode = true;
  slice.document_begin = ids.size();  // all of it is of one kind
  slice.encoded = states.data();
  LECTERN_RETURN_IF_ERROR(model_->Forward({&slice, 1}, *workspace_));
  std::vector<double> sum(hidden_);
  for (size_t i = 0; i < states.size(); ++i) sum[i % hidden_] += states[i];
  double square = 0;
  for (const double value : sum) square += value * value;
  std::vector<float> embedding;
  for (const double value : sum) embedding.push_back(static_cast<float>(value / std::sqrt(square)));
  return embedding;
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace lectern
