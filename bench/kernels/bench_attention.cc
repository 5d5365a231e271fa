// Times attention at the shape of a small Llama (9 query heads on 3 KV heads, 64 wide), and one
// decoded row at wider heads: the last rows of a context of L tokens, one row (decode) or 256 (a
// piece of prefill).
//   score  wall time over rows * heads * visible keys
// BM_DecodedToken is the attention of one token of a model of 30 layers, from memory, and
// BM_DecodedTokenStream the plain reading of the bytes of its keys, the upper limit.
// BM_Composition is the obvious implementation: all scores of a row, std::nth_element, softmax and
// gather, with equal threads and with keys and values as plain fp32 matrices.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "bench/kernels/stream_read.h"
#include "kernels/attention/dense_attention.h"
#include "kernels/attention/topk_attention.h"
#include "kernels/runtime/thread_team.h"
#include "tests/kernels/attention/paged_sequence.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

struct Heads {
  int query, kv, dim;
};
constexpr int kHeads = 9, kKvHeads = 3, kDim = 64;
constexpr Heads kSmall = {kHeads, kKvHeads, kDim};
constexpr int64_t kKept = 128;

struct Problem {
  Problem(int64_t length, int64_t rows, int threads, Heads heads = kSmall)
      : heads(heads),
        length(length),
        rows(rows),
        // Logits of standard deviation 2: between flat and peaked.
        q(Normal(rows * heads.query * heads.dim, 1)),
        k(Normal(length * heads.kv * heads.dim, 2)),
        v(Normal(length * heads.kv * heads.dim, 3)),
        out(rows * heads.query * heads.dim) {
    for (float& x : q) x *= 2.0f;
    context.num_threads = threads;
  }
  void Count(benchmark::State& state) const {
    double scores = 0;
    for (int64_t i = 0; i < rows; ++i)
      scores += static_cast<double>(length - rows + i + 1) * heads.query;
    state.counters["score"] = benchmark::Counter(
        scores, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  }
  Heads heads;
  int64_t length, rows;
  std::vector<float> q, k, v, out;
  ExecutionContext context;
};

enum class Method { kDense, kTopK, kTopKMean, kBudget };

constexpr int64_t kBudgetPages = 64;

void BM_Attention(benchmark::State& state, Isa isa, KvType type, Method method,
                  Heads heads = kSmall) {
  if (isa > BestIsa()) return state.SkipWithError("this CPU lacks the instructions");
  Problem p(state.range(0), state.range(1), static_cast<int>(state.range(2)), heads);
  p.context.isa = isa;
  const KvPageLayout layout{type, 1, heads.kv, heads.dim, heads.dim};
  PagedSequence sequence(layout, p.length);
  if (!Ok(sequence.Append(0, 0, p.length, p.k.data(), p.v.data()))) std::abort();
  const AttentionArgs args{.q = p.q.data(),
                           .q_stride = heads.query * heads.dim,
                           .rows = p.rows,
                           .num_q_heads = heads.query,
                           .q_offset = p.length - p.rows,
                           .layout = layout,
                           .table = sequence.Table(p.length),
                           .scale = 1.0f / std::sqrt(static_cast<float>(heads.dim)),
                           .out = p.out.data(),
                           .out_stride = heads.query * heads.dim};
  const TopKParams params{.k = kKept,
                          .tail = method == Method::kTopK ? Tail::kNone : Tail::kMean,
                          .page_budget = method == Method::kBudget ? kBudgetPages : 0};
  for (auto _ : state) {
    const LaunchStatus status = method == Method::kDense
                                    ? DenseAttention({&args, 1}, p.context)
                                    : TopKAttention({&args, 1}, params, p.context);
    if (!Ok(status)) std::abort();
    benchmark::DoNotOptimize(p.out.data());
  }
  p.Count(state);
}

void ComposeRow(const Problem& p, int64_t row, int head, std::vector<float>& score,
                std::vector<int32_t>& order, float* out) {
  const int kv_head = head / (kHeads / kKvHeads);
  const int64_t visible = p.length - p.rows + row + 1;
  const float* q = p.q.data() + (row * kHeads + head) * kDim;
  for (int64_t j = 0; j < visible; ++j) {
    const float* key = p.k.data() + (j * kKvHeads + kv_head) * kDim;
    score[j] = 0.125f * std::inner_product(q, q + kDim, key, 0.0f);
  }
  std::iota(order.begin(), order.begin() + visible, 0);
  const int64_t kept = std::min(kKept, visible);
  std::nth_element(order.begin(), order.begin() + kept - 1, order.begin() + visible,
                   [&](int32_t a, int32_t b) { return score[a] > score[b]; });
  float max = score[order[0]], sum = 0;
  for (int64_t i = 0; i < kept; ++i) max = std::max(max, score[order[i]]);
  std::fill(out, out + kDim, 0.0f);
  for (int64_t i = 0; i < kept; ++i) {
    const float weight = std::exp(score[order[i]] - max);
    const float* value = p.v.data() + (order[i] * kKvHeads + kv_head) * kDim;
    for (int c = 0; c < kDim; ++c) out[c] += weight * value[c];
    sum += weight;
  }
  for (int c = 0; c < kDim; ++c) out[c] /= sum;
}

void BM_Composition(benchmark::State& state) {
  Problem p(state.range(0), state.range(1), static_cast<int>(state.range(2)));
  const int64_t items = p.rows * kHeads;
  for (auto _ : state) {
    ForItems(p.context.num_threads, {.count = items}, [&](ItemRange range, int) {
      std::vector<float> score(p.length);
      std::vector<int32_t> order(p.length);
      for (int64_t i = range.begin; i < range.end; ++i) {
        ComposeRow(p, i / kHeads, static_cast<int>(i % kHeads), score, order,
                   p.out.data() + i * kDim);
      }
    });
    benchmark::DoNotOptimize(p.out.data());
  }
  p.Count(state);
}

// Times the attention of one decoded token over every layer of a document whose pages are in no
// cache, but in huge pages, like those of the server.
class DecodedDocument {
 public:
  static constexpr int kLayers = 30;

  explicit DecodedDocument(int64_t tokens)
      : layout_{KvType::kI8, kLayers, kKvHeads, kDim, kDim},
        tokens_(tokens),
        stride_((static_cast<int64_t>(layout_.PageBytes()) + 4095) / 4096 * 4096),
        bytes_((KvPageLayout::PagesFor(tokens) * stride_ + kHugePage - 1) / kHugePage * kHugePage),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes_))) {
    madvise(memory_, bytes_, MADV_HUGEPAGE);
    for (int64_t at = 0; at + stride_ <= bytes_; at += stride_) pages_.push_back(memory_ + at);
    const std::vector<float> k = Normal(tokens * kKvHeads * kDim, 2);
    const std::vector<float> v = Normal(tokens * kKvHeads * kDim, 3);
    for (int layer = 0; layer < kLayers; ++layer) {
      const LaunchStatus status = WriteKv(layout_, pages_.data(), layer, 0, tokens, k.data(),
                                          kKvHeads * kDim, v.data(), kKvHeads * kDim, {});
      if (!Ok(status)) std::abort();
    }
  }
  ~DecodedDocument() { std::free(memory_); }
  DecodedDocument(const DecodedDocument&) = delete;
  DecodedDocument& operator=(const DecodedDocument&) = delete;

  AttentionArgs Args(int layer, const float* q, float* out) const {
    return {.q = q,
            .q_stride = kHeads * kDim,
            .rows = 1,
            .num_q_heads = kHeads,
            .q_offset = tokens_ - 1,
            .layout = layout_,
            .table = {pages_.data(), tokens_},
            .layer = layer,
            .scale = 0.125f,
            .out = out,
            .out_stride = kHeads * kDim};
  }
  // Bytes of the keys and their scales in all layers.
  int64_t KeyBytes() const { return tokens_ * kKvHeads * (kDim + 4) * kLayers; }
  const std::byte* memory() const { return memory_; }

 private:
  static constexpr int64_t kHugePage = 2 << 20;

  const KvPageLayout layout_;
  const int64_t tokens_, stride_, bytes_;
  std::byte* const memory_;
  std::vector<std::byte*> pages_;
};

void BM_DecodedToken(benchmark::State& state, Method method) {
  const DecodedDocument document(state.range(0));
  Problem p(1, 1, static_cast<int>(std::thread::hardware_concurrency()));
  const TopKParams params{.k = kKept, .tail = Tail::kMean};
  for (auto _ : state) {
    for (int layer = 0; layer < DecodedDocument::kLayers; ++layer) {
      const AttentionArgs args = document.Args(layer, p.q.data(), p.out.data());
      const LaunchStatus status = method == Method::kDense
                                      ? DenseAttention({&args, 1}, p.context)
                                      : TopKAttention({&args, 1}, params, p.context);
      if (!Ok(status)) std::abort();
    }
  }
  state.SetBytesProcessed(state.iterations() * document.KeyBytes());
}

// Reads the same number of bytes of that memory in one stream for each thread.
void BM_DecodedTokenStream(benchmark::State& state) {
  const DecodedDocument document(state.range(0));
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  const auto* lines = reinterpret_cast<const CacheLine*>(document.memory());
  const int64_t count = document.KeyBytes() / static_cast<int64_t>(sizeof(CacheLine)) / 4 * 4;
  for (auto _ : state) ReadStream(lines, count, threads);
  state.SetBytesProcessed(state.iterations() * document.KeyBytes());
}

void Shapes(benchmark::internal::Benchmark* b) {
  const int64_t all = std::thread::hardware_concurrency();
  b->ArgNames({"L", "rows", "threads"})
      ->ArgsProduct({{512, 1024, 2048, 8192}, {1, 256}, {1, all}})
      ->UseRealTime();
}

// One decoded row of a long document.
void LongShapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"L", "rows", "threads"})
      ->ArgsProduct({{8192, 16384, 32768, 65536}, {1}, {1}})
      ->UseRealTime();
}
BENCHMARK_CAPTURE(BM_Attention, long_topk_mean, BestIsa(), KvType::kI8, Method::kTopKMean)
    ->Apply(LongShapes);
BENCHMARK_CAPTURE(BM_Attention, long_budget, BestIsa(), KvType::kI8, Method::kBudget)
    ->Apply(LongShapes);

// Heads as wide as those of Llama 3 and Qwen 3, and of Gemma.
#define LECTERN_BENCH_WIDE(isa, name)                                                 \
  BENCHMARK_CAPTURE(BM_Attention, name##_dim128, isa, KvType::kI8, Method::kTopKMean, \
                    Heads{8, 2, 128})                                                 \
      ->Apply(LongShapes);                                                            \
  BENCHMARK_CAPTURE(BM_Attention, name##_dim256, isa, KvType::kI8, Method::kTopKMean, \
                    Heads{8, 2, 256})                                                 \
      ->Apply(LongShapes)
LECTERN_BENCH_WIDE(Isa::kAvx512, avx512);
LECTERN_BENCH_WIDE(Isa::kAvx2, avx2);
#undef LECTERN_BENCH_WIDE

#define LECTERN_BENCH(isa, name)                                                                   \
  BENCHMARK_CAPTURE(BM_Attention, name##_i8_topk, isa, KvType::kI8, Method::kTopK)->Apply(Shapes); \
  BENCHMARK_CAPTURE(BM_Attention, name##_i8_topk_mean, isa, KvType::kI8, Method::kTopKMean)        \
      ->Apply(Shapes);                                                                             \
  BENCHMARK_CAPTURE(BM_Attention, name##_i8_dense, isa, KvType::kI8, Method::kDense)               \
      ->Apply(Shapes);                                                                             \
  BENCHMARK_CAPTURE(BM_Attention, name##_f32_topk, isa, KvType::kF32, Method::kTopK)               \
      ->Apply(Shapes);                                                                             \
  BENCHMARK_CAPTURE(BM_Attention, name##_f32_dense, isa, KvType::kF32, Method::kDense)             \
      ->Apply(Shapes)
LECTERN_BENCH(Isa::kAvx512, avx512);
LECTERN_BENCH(Isa::kAvx2, avx2);
#undef LECTERN_BENCH
BENCHMARK(BM_Composition)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_DecodedToken, dense, Method::kDense)->Arg(2048)->Arg(8192)->UseRealTime();
BENCHMARK_CAPTURE(BM_DecodedToken, topk_mean, Method::kTopKMean)
    ->Arg(2048)
    ->Arg(8192)
    ->UseRealTime();
BENCHMARK(BM_DecodedTokenStream)->Arg(2048)->Arg(8192)->UseRealTime();

}  // namespace
}  // namespace lectern::kernels

BENCHMARK_MAIN();
