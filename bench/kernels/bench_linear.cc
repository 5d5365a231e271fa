// Times Int8Linear and BlockLinear at the shapes of a small Llama (576 wide) and of one of about a
// billion weights (2,048 wide), from one row (decode) to 512 (prefill).
//   Gop/s  2 m n k operations per second     weights  bytes of packed weights read per second
// BM_StreamRead is the upper limit of decode, measured in the same run: plain reading of 64 MiB.
// BM_Loop is a loop of one item for each thread that ends when all have begun: the cost of each
// loop of a decoded token.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "bench/kernels/stream_read.h"
#include "kernels/ffn/activate.h"
#include "kernels/linear/block_linear.h"
#include "kernels/linear/int8_linear.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/rms_norm.h"
#include "kernels/runtime/thread_team.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

template <typename T>
std::unique_ptr<T[], Free> Aligned(size_t count) {
  const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
  return std::unique_ptr<T[], Free>(static_cast<T*>(std::aligned_alloc(64, bytes)));
}

ExecutionContext AllThreads(Isa isa = DefaultIsa()) {
  ExecutionContext context;
  context.num_threads = static_cast<int>(std::thread::hardware_concurrency());
  context.isa = isa;
  return context;
}

class Weights {
 public:
  Weights(int64_t n, int64_t k)
      : packed_(Aligned<int8_t>(PackedInt8Bytes(n, k))),
        scale_(PaddedChannels(n)),
        row_sum_(PaddedChannels(n)) {
    const std::vector<float> w = Normal(n * k, 1);
    const LaunchStatus status =
        PackInt8Rows(w.data(), 0, n, n, k, packed_.get(), scale_.data(), row_sum_.data());
    if (!Ok(status)) std::abort();
    matrix_ = {n, k, packed_.get(), scale_.data(), row_sum_.data()};
  }
  const Int8Matrix& matrix() const { return matrix_; }

 private:
  std::unique_ptr<int8_t[], Free> packed_;
  std::vector<float> scale_;
  std::vector<int32_t> row_sum_;
  Int8Matrix matrix_;
};

// Random codes in blocks of a file.
class Blocks {
 public:
  Blocks(int64_t n, int64_t k, BlockForm form)
      : packed_(Aligned<uint8_t>(PackedBlockBytes(n, k, form))) {
    std::fill_n(packed_.get(), PackedBlockBytes(n, k, form), uint8_t{0});
    std::mt19937 generator(1);
    std::vector<int8_t> codes(k);
    const std::vector<uint16_t> ones(k / 16, 0x3C00), minima(k / 32, 0xC700);
    const std::vector<uint8_t> bytes(k / 16, 9);
    const int lowest = form.has_minimum() ? 0 : -(1 << (form.bits - 1));
    const uint32_t mask = (1u << form.bits) - 1;
    for (int64_t channel = 0; channel < n; ++channel) {
      for (int8_t& code : codes) {
        code = static_cast<int8_t>(lowest + static_cast<int>(generator() & mask));
      }
      BlockChannel row{.codes = codes.data(), .scale = ones.data()};
      if (form.has_minimum()) row.minimum = minima.data();
      if (form.two_levels) row.sub_scale = bytes.data();
      if (form.two_levels && form.has_minimum()) row.sub_minimum = bytes.data();
      if (!Ok(PackBlockChannel(row, channel, n, k, form, packed_.get()))) std::abort();
    }
    matrix_ = {n, k, form, packed_.get()};
  }
  const BlockMatrix& matrix() const { return matrix_; }

 private:
  std::unique_ptr<uint8_t[], Free> packed_;
  BlockMatrix matrix_;
};

// Decode reads each matrix once per token, so the weights come from memory, not from a cache:
// enough copies of the matrix to overflow the last level take turns.
template <typename Make, typename Multiply>
void MeasureLinear(benchmark::State& state, int64_t bytes, const Make& make,
                   const Multiply& multiply) {
  const int64_t k = state.range(0), n = state.range(1), m = state.range(2);
  constexpr int64_t kCold = 96 << 20;
  const int64_t copies = m > 8 ? 1 : std::min<int64_t>(kCold / bytes + 1, 64);
  // Kept while the same measurement is called again with more iterations.
  static std::vector<decltype(make(n, k))> weights;
  static std::array<int64_t, 4> kept;
  if (const std::array<int64_t, 4> wanted = {k, n, bytes, copies}; kept != wanted) {
    kept = wanted;
    weights.clear();
    for (int64_t i = 0; i < copies; ++i) weights.push_back(make(n, k));
  }
  const std::vector<float> x = Normal(m * k, 1);
  std::vector<float> y(m * n);
  int64_t next = 0;
  for (auto _ : state) {
    const LinearInput input{.x = x.data(), .m = m, .stride = k};
    if (!Ok(multiply(input, weights[next++ % copies]->matrix(), y.data()))) std::abort();
    benchmark::DoNotOptimize(y.data());
  }
  using benchmark::Counter;
  state.counters["Gop/s"] = Counter(2e-9 * m * n * k, Counter::kIsIterationInvariantRate);
  state.counters["weights"] = Counter(bytes, Counter::kIsIterationInvariantRate);
}

void BM_Int8Linear(benchmark::State& state, Isa isa) {
  if (isa > BestIsa()) return state.SkipWithError("this CPU lacks the instructions");
  const int64_t k = state.range(0), n = state.range(1);
  MeasureLinear(
      state, static_cast<int64_t>(PackedInt8Bytes(n, k)),
      [](int64_t n, int64_t k) { return std::make_unique<Weights>(n, k); },
      [&](const LinearInput& input, const Int8Matrix& w, float* y) {
        return Int8Linear(input, w, y, n, false, AllThreads(isa));
      });
}

void BM_BlockLinear(benchmark::State& state, Isa isa, BlockForm form) {
  if (isa > BestIsa()) return state.SkipWithError("this CPU lacks the instructions");
  const int64_t k = state.range(0), n = state.range(1);
  if (form.two_levels && k % kSuperInputs != 0) {
    return state.SkipWithError("two levels need a multiple of 256 inputs");
  }
  MeasureLinear(
      state, static_cast<int64_t>(PackedBlockBytes(n, k, form)),
      [&](int64_t n, int64_t k) { return std::make_unique<Blocks>(n, k, form); },
      [&](const LinearInput& input, const BlockMatrix& w, float* y) {
        return BlockLinear(input, {&w, 1}, y, n, false, AllThreads(isa));
      });
}

void BM_StreamRead(benchmark::State& state) {
  constexpr int64_t kLines = 1 << 20;
  const auto lines = Aligned<CacheLine>(kLines);
  std::fill(lines.get(), lines.get() + kLines, CacheLine{} + 1);
  const int threads = AllThreads().num_threads;
  for (auto _ : state) ReadStream(lines.get(), kLines, threads);
  state.SetBytesProcessed(state.iterations() * kLines * static_cast<int64_t>(sizeof(CacheLine)));
}

void BM_Loop(benchmark::State& state) {
  const int threads = AllThreads().num_threads;
  for (auto _ : state) {
    std::atomic<int> begun{0};
    ForItems(threads, {.count = threads, .most = 1}, [&](ItemRange, int) {
      ++begun;
      while (begun.load(std::memory_order_relaxed) < threads) {
      }
    });
  }
}

void BM_RmsNorm(benchmark::State& state) {
  const ExecutionContext context = AllThreads();
  const int64_t rows = state.range(0), cols = 576;
  std::vector<float> x = Normal(rows * cols, 1), gain(cols, 1.0f), y(rows * cols);
  for (auto _ : state) {
    if (!Ok(RmsNorm(x.data(), rows, cols, gain.data(), 1e-5f, y.data(), context))) return;
  }
  state.SetItemsProcessed(state.iterations() * rows * cols);
}

void BM_Silu(benchmark::State& state) {
  const ExecutionContext context = AllThreads();
  const int64_t rows = state.range(0), cols = 1536;
  const std::vector<float> x = Normal(rows * 2 * cols, 1);
  std::vector<float> y(rows * cols);
  for (auto _ : state) {
    if (!Ok(Activate(FfnActivation::kSilu, x.data(), 2 * cols, x.data() + cols, 2 * cols, rows,
                     cols, y.data(), cols, context))) {
      return;
    }
  }
  state.SetItemsProcessed(state.iterations() * rows * cols);
}

void BM_Hadamard(benchmark::State& state) {
  const ExecutionContext context = AllThreads();
  const int64_t rows = state.range(0), cols = 1536;
  std::vector<float> x = Normal(rows * cols, 1);
  for (auto _ : state) {
    if (!Ok(BlockHadamard(x.data(), rows, cols, cols, 512, context))) return;
  }
  state.SetItemsProcessed(state.iterations() * rows * cols);
}

void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"k", "n", "m"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  const int64_t shapes[][2] = {{576, 960},   {576, 576},   {576, 3072}, {1536, 576},
                               {576, 49152}, {2048, 2048}, {2048, 8192}};
  for (const auto& [k, n] : shapes) {
    for (int64_t m : {1, 8, 64, 512}) benchmark->Args({k, n, m});
  }
}

BENCHMARK_CAPTURE(BM_Int8Linear, avx512, Isa::kAvx512)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_Int8Linear, avx2, Isa::kAvx2)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_Int8Linear, portable, Isa::kPortable)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx512_4bit, Isa::kAvx512, (BlockForm{4}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx512_5bit, Isa::kAvx512, (BlockForm{5}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx512_8bit, Isa::kAvx512, (BlockForm{8}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx512_q4_k, Isa::kAvx512, (BlockForm{4, true}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx512_q5_k, Isa::kAvx512, (BlockForm{5, true}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx512_q6_k, Isa::kAvx512, (BlockForm{6, true}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx2_4bit, Isa::kAvx2, (BlockForm{4}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx2_5bit, Isa::kAvx2, (BlockForm{5}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx2_8bit, Isa::kAvx2, (BlockForm{8}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx2_q4_k, Isa::kAvx2, (BlockForm{4, true}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx2_q5_k, Isa::kAvx2, (BlockForm{5, true}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, avx2_q6_k, Isa::kAvx2, (BlockForm{6, true}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, portable_4bit, Isa::kPortable, (BlockForm{4}))->Apply(Shapes);
BENCHMARK_CAPTURE(BM_BlockLinear, portable_q6_k, Isa::kPortable, (BlockForm{6, true}))
    ->Apply(Shapes);
BENCHMARK(BM_StreamRead)->UseRealTime();
BENCHMARK(BM_Loop)->UseRealTime();
BENCHMARK(BM_RmsNorm)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK(BM_Silu)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK(BM_Hadamard)->Arg(1)->Arg(512)->UseRealTime();

}  // namespace
}  // namespace lectern::kernels

BENCHMARK_MAIN();
