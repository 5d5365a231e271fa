// Times TopKFeedForward at the shapes of SmolLM2-135M (576 x 1536, SwiGLU) and T5-base (768 x 3072,
// ReLU), one row (decode) and 64: all units ("kept:1/1") against the kept shares 1/2 to 1/64.
//   row       time for one row
//   needed    bytes per second of the weights that the kept units need, for one row
// The weights come from memory: as many layers as the models have take turns, 0.3 and 0.45 GB.
// BM_TopKFfn is the selection alone, which the forward passes of the models use.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <thread>
#include <vector>

#include "bench/gathered_ffn/gathered_ffn.h"
#include "kernels/ffn/topk_ffn.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

using bench::FeedForwardWeights;
using bench::TopKFeedForward;
using bench::UnitRank;
using bench::UnitSelection;

ExecutionContext AllThreads(Isa isa) {
  ExecutionContext context;
  context.num_threads = static_cast<int>(std::thread::hardware_concurrency());
  context.isa = isa;
  return context;
}

struct Shape {
  int64_t layers, width, units;
  bool gated;
  FfnActivation activation;

  int64_t Matrices() const { return gated ? 3 : 2; }
  int64_t Bytes() const { return Matrices() * width * units * 4; }
};

constexpr Shape kSmolLm2 = {30, 576, 1536, true, FfnActivation::kSilu};
constexpr Shape kT5Base = {24, 768, 3072, false, FfnActivation::kRelu};

// One set of random numbers, from another place for each layer and matrix.
std::vector<float> Weights(int64_t count, double scale) {
  static const std::vector<float> pool = Normal(1 << 22, 1);
  static int64_t place = 0;
  std::vector<float> values(count);
  for (float& value : values) {
    place = place + 1 < static_cast<int64_t>(pool.size()) ? place + 1 : 0;
    value = pool[place] * static_cast<float>(scale);
  }
  place += 12345;
  return values;
}

struct Layer {
  std::vector<float> gate, up, down;
  FeedForwardWeights weights;

  explicit Layer(const Shape& s)
      : gate(Weights(s.units * s.width, 1 / std::sqrt(s.width))),
        up(Weights(s.gated ? s.units * s.width : 0, 1 / std::sqrt(s.width))),
        down(Weights(s.units * s.width, 1 / std::sqrt(s.units))),
        weights{s.width,     s.units,     s.width, gate.data(), s.gated ? up.data() : nullptr,
                down.data(), s.activation} {}
};

const std::vector<Layer>& LayersOf(const Shape& shape) {
  static std::map<int64_t, std::vector<Layer>> made;
  std::vector<Layer>& layers = made[shape.width];
  layers.reserve(shape.layers);
  while (static_cast<int64_t>(layers.size()) < shape.layers) layers.emplace_back(shape);
  return layers;
}

// Share of the weights that one row needs.
double Needed(const Shape& s, UnitRank rank, double kept) {
  const double full = s.gated && rank == UnitRank::kProduct ? 2 : 1;
  return (full + (s.Matrices() - full) * kept) / s.Matrices();
}

void BM_FeedForward(benchmark::State& state, const Shape& shape, UnitRank rank, Isa isa) {
  if (isa > BestIsa()) return state.SkipWithError("this CPU lacks the instructions");
  const int64_t rows = state.range(0), one_in = state.range(1);
  constexpr int64_t kInputs = 64;
  const std::vector<Layer>& layers = LayersOf(shape);
  const std::vector<float> x = Normal(kInputs * shape.width, 1);
  std::vector<float> y(rows * shape.width);
  const ExecutionContext context = AllThreads(isa);
  int64_t next = 0;
  for (auto _ : state) {
    const Layer& layer = layers[next % shape.layers];
    const int64_t first = next++ * 7 * rows % kInputs;
    const UnitSelection selection{.k = shape.units / one_in, .rank = rank};
    if (!Ok(TopKFeedForward(x.data() + first * shape.width, rows, layer.weights, selection,
                            y.data(), context))) {
      std::abort();
    }
    benchmark::DoNotOptimize(y.data());
  }
  using benchmark::Counter;
  const double done = static_cast<double>(rows) * static_cast<double>(state.iterations());
  state.counters["row"] = Counter(done, Counter::kIsRate | Counter::kInvert);
  if (rows == 1) {
    state.counters["needed"] =
        Counter(done * shape.Bytes() * Needed(shape, rank, 1.0 / one_in), Counter::kIsRate);
  }
}

void BM_TopKFfn(benchmark::State& state, FfnRank rank, Isa isa) {
  if (isa > BestIsa()) return state.SkipWithError("this CPU lacks the instructions");
  const int64_t rows = state.range(0), units = state.range(1), one_in = state.range(2);
  const std::vector<float> gate = Normal(rows * units, 1), activated = Normal(rows * units, 2);
  std::vector<float> work = activated;
  const ExecutionContext context = AllThreads(isa);
  for (auto _ : state) {
    std::copy(activated.begin(), activated.end(), work.begin());
    if (!Ok(TopKFfn(gate.data(), units, FfnActivation::kSilu, rank, units / one_in, rows, units,
                    work.data(), units, context))) {
      std::abort();
    }
  }
  using benchmark::Counter;
  state.counters["row"] = Counter(rows, Counter::kIsIterationInvariantRate | Counter::kInvert);
}

void Shares(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "kept:1"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const int64_t rows : {1, 64}) {
    for (const int64_t one_in : {1, 2, 3, 4, 8, 16, 32, 64}) benchmark->Args({rows, one_in});
  }
}

void Selections(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "units", "kept:1"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const int64_t rows : {1, 64}) {
    for (const int64_t units : {1536, 3072}) {
      for (const int64_t one_in : {2, 16}) benchmark->Args({rows, units, one_in});
    }
  }
}

#define LECTERN_BENCH_FFN(name, isa)                                                             \
  BENCHMARK_CAPTURE(BM_FeedForward, smollm2_gate_abs_##name, kSmolLm2, UnitRank::kGateAbs, isa)  \
      ->Apply(Shares);                                                                           \
  BENCHMARK_CAPTURE(BM_FeedForward, smollm2_product_##name, kSmolLm2, UnitRank::kProduct, isa)   \
      ->Apply(Shares);                                                                           \
  BENCHMARK_CAPTURE(BM_FeedForward, t5_pre_##name, kT5Base, UnitRank::kPre, isa)->Apply(Shares); \
  BENCHMARK_CAPTURE(BM_TopKFfn, product_##name, FfnRank::kProduct, isa)->Apply(Selections);      \
  BENCHMARK_CAPTURE(BM_TopKFfn, gate_abs_##name, FfnRank::kGateAbs, isa)->Apply(Selections);

LECTERN_BENCH_FFN(avx512, Isa::kAvx512)
LECTERN_BENCH_FFN(avx2, Isa::kAvx2)
LECTERN_BENCH_FFN(portable, Isa::kPortable)

}  // namespace
}  // namespace lectern::kernels

BENCHMARK_MAIN();
