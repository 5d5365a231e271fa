// The workloads of the paper's benchmarks (Gupta et al. 2021, arXiv 2106.06899;
// docs/measurements/paper_layer.md): one causal self-attention layer, a stack of layers, one
// feed-forward layer; each by several methods. Forward only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/kv/kv_pages.h"

namespace lectern::bench {

enum class Experiment { kAttention, kLayers, kFeedForward };

enum class Method {
  kPlain,      // ATen, everything at once
  kChunked,    // ATen, `chunk` queries (or tokens) at a time
  kSdpa,       // at::scaled_dot_product_attention
  kNaiveTopK,  // ATen, the paper's order of operations: scores, topk, softmax, scatter, product
  kOurs,       // lectern::kernels, top-k
  kOursDense,  // lectern::kernels, all keys (the server's dense attention)
};

struct Shape {
  int64_t tokens = 0;
  int heads = 12;
  int head_dim = 64;
  int64_t chunk = 1024;      // queries, or tokens of the feed-forward experiment
  int64_t kept = 128;        // keys of a query, or hidden units of a token
  int layers = 12;           // of the stack
  int64_t units = 3072;      // d_ff
  int64_t ffn_chunk = 4096;  // tokens of the feed-forward layers of the stack
  int threads = 1;
  kernels::KvType pages = kernels::KvType::kF32;  // of our methods

  int64_t Width() const { return static_cast<int64_t>(heads) * head_dim; }
};

// One method on one shape. The constructor makes the inputs, which are equal for all methods.
// Allocation errors are thrown as exceptions.
class Workload {
 public:
  virtual ~Workload() = default;
  virtual void Run() = 0;
  // The result of the last Run(), [tokens, width]; valid until the next.
  virtual std::span<const float> Result() const = 0;
};

std::unique_ptr<Workload> MakeWorkload(Experiment experiment, Method method, const Shape& shape);

// Estimates the bytes that Run() needs beyond the inputs, including its result.
int64_t NeededBytes(Experiment experiment, Method method, const Shape& shape);

std::span<const Experiment> AllExperiments();
std::span<const Method> AllMethods();
// "attention", "layers", "ffn"; "plain", "chunked", "sdpa", "naive_topk", "ours", "ours_dense".
const char* ToString(Experiment experiment);
const char* ToString(Method method);
// Returns false for SDPA of a feed-forward layer, and for kOursDense of anything but one attention
// layer.
bool Offers(Experiment experiment, Method method);

}  // namespace lectern::bench
