#include "bench/paper/workload.h"

#include <algorithm>

#include "bench/paper/attention_methods.h"
#include "bench/paper/ffn_methods.h"
#include "bench/paper/layer_stack.h"

namespace lectern::bench {
namespace {

constexpr Experiment kExperiments[] = {Experiment::kAttention, Experiment::kLayers,
                                       Experiment::kFeedForward};
constexpr Method kMethods[] = {Method::kPlain,     Method::kChunked, Method::kSdpa,
                               Method::kNaiveTopK, Method::kOurs,    Method::kOursDense};

// Beyond queries, keys, values and the output: section 3.1 of
// docs/specs/topk_attention_and_ff.md.
int64_t AttentionScratch(Method method, const Shape& s) {
  const int64_t rows = std::min(s.chunk, s.tokens);
  const int64_t chunk_scores = 4 * s.heads * rows * s.tokens + rows * s.tokens;
  switch (method) {
    case Method::kPlain:
      return (8 * s.heads + 1) * s.tokens * s.tokens;
    case Method::kChunked:
      return chunk_scores;
    case Method::kNaiveTopK:
      return chunk_scores + s.heads * rows * s.kept * (4 + 4 + 8);
    case Method::kSdpa:
    case Method::kOurs:
    case Method::kOursDense:
      break;
  }
  return 4 << 20;  // some tiles for each thread, at any length
}

int64_t FeedForwardScratch(Method method, int64_t rows, const Shape& s) {
  if (method == Method::kOurs) return 24 * 4 * s.units * (s.threads + 1);
  return 4 * rows * s.units + (method == Method::kNaiveTopK ? rows * s.kept * (4 + 4 + 8) : 0);
}

}  // namespace

std::unique_ptr<Workload> MakeWorkload(Experiment experiment, Method method, const Shape& shape) {
  switch (experiment) {
    case Experiment::kAttention:
      return MakeAttention(method, shape);
    case Experiment::kLayers:
      return MakeLayerStack(method, shape);
    case Experiment::kFeedForward:
      break;
  }
  return MakeFeedForward(method, shape);
}

int64_t NeededBytes(Experiment experiment, Method method, const Shape& s) {
  const int64_t activations = 4 * s.tokens * s.Width();
  switch (experiment) {
    case Experiment::kAttention:
      return AttentionScratch(method, s) + activations;
    case Experiment::kLayers: {
      const int64_t rows = method == Method::kPlain ? s.tokens : std::min(s.ffn_chunk, s.tokens);
      // Keys and values of all layers; the stream, queries and the output of attention.
      return (2 * s.layers + 3) * activations +
             std::max(AttentionScratch(method, s), 4 * rows * (s.units + s.Width()));
    }
    case Experiment::kFeedForward:
      break;
  }
  const int64_t rows = method == Method::kPlain ? s.tokens : std::min(s.chunk, s.tokens);
  return FeedForwardScratch(method, rows, s) + activations;
}

std::span<const Experiment> AllExperiments() { return kExperiments; }
std::span<const Method> AllMethods() { return kMethods; }

const char* ToString(Experiment experiment) {
  switch (experiment) {
    case Experiment::kAttention:
      return "attention";
    case Experiment::kLayers:
      return "layers";
    case Experiment::kFeedForward:
      break;
  }
  return "ffn";
}

const char* ToString(Method method) {
  switch (method) {
    case Method::kPlain:
      return "plain";
    case Method::kChunked:
      return "chunked";
    case Method::kSdpa:
      return "sdpa";
    case Method::kNaiveTopK:
      return "naive_topk";
    case Method::kOursDense:
      return "ours_dense";
    case Method::kOurs:
      break;
  }
  return "ours";
}

bool Offers(Experiment experiment, Method method) {
  if (method == Method::kOursDense) return experiment == Experiment::kAttention;
  return experiment != Experiment::kFeedForward || method != Method::kSdpa;
}

}  // namespace lectern::bench
