// Speed of Model::Forward on a real model: prefill of whole prompts in slices of 512 tokens, and
// decode at depth, with the default policy.
//
//   bench_forward MODEL [THREADS] [f32|int8] [TOP_K] [MAX_LENGTH]
//
// Prints tokens per second, the best of a few repetitions. Figures of one run compare with figures
// of the same run only: machines and their load differ.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "server/model/model_loader.h"

namespace lectern {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A prompt of ordinary tokens, and pages for it.
class Run {
 public:
  Run(const Model& model, int64_t capacity) : model_(model), workspace_(model.NewWorkspace()) {
    const int page = model.info().page_tokens;
    for (int64_t p = 0; p * page < capacity; ++p) {
      memory_.emplace_back(static_cast<std::byte*>(std::aligned_alloc(64, model.info().page_bytes)),
                           std::free);
      std::memset(memory_.back().get(), 0, model.info().page_bytes);
      pages_.push_back(memory_.back().get());
    }
    logits_.resize(model.info().vocabulary);
  }

  // Feeds tokens [position, position + count) in slices; the seconds it took.
  double Feed(int64_t position, int64_t count, int64_t slice_tokens, bool logits) {
    std::vector<int32_t> tokens(slice_tokens);
    const auto start = Clock::now();
    for (int64_t done = 0; done < count; done += slice_tokens) {
      const int64_t size = std::min(slice_tokens, count - done);
      for (int64_t i = 0; i < size; ++i) tokens[i] = TokenAt(position + done + i);
      ForwardSlice slice;
      slice.tokens = {tokens.data(), static_cast<size_t>(size)};
      slice.position = position + done;
      slice.pages = pages_;
      slice.policy = &model_.info().default_policy;
      if (logits) slice.logits = logits_.data();
      const absl::Status status = model_.Forward({&slice, 1}, *workspace_);
      if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.ToString().c_str());
        std::exit(1);
      }
    }
    return SecondsSince(start);
  }

 private:
  int32_t TokenAt(int64_t position) const {
    // Spread over the vocabulary, clear of the special tokens at its start.
    return static_cast<int32_t>(32 + position * 7919 % (model_.info().vocabulary - 32));
  }

  const Model& model_;
  std::unique_ptr<Workspace> workspace_;
  std::vector<std::unique_ptr<std::byte, decltype(&std::free)>> memory_;
  std::vector<std::byte*> pages_;
  std::vector<float> logits_;
};

void Measure(const Model& model, int64_t max_length) {
  constexpr int64_t kSlice = 512;
  constexpr int64_t kDecoded = 64;
  for (const int64_t length : {512, 2048, 8000}) {
    if (length > max_length) continue;
    Run run(model, length);
    double best = 1e9;
    for (int repetition = 0; repetition < (length > 4000 ? 2 : 4); ++repetition) {
      best = std::min(best, run.Feed(0, length, kSlice, false));
    }
    std::printf("prefill %5d tokens: %7.0f tok/s\n", static_cast<int>(length), length / best);
  }
  for (const int64_t depth : {0, 2048, 8000}) {
    if (depth > max_length) continue;
    Run run(model, depth + kDecoded);
    run.Feed(0, depth, kSlice, false);
    double best = 1e9;
    for (int repetition = 0; repetition < 5; ++repetition) {
      best = std::min(best, run.Feed(depth, kDecoded, 1, true));
    }
    std::printf("decode at %5d: %7.1f tok/s\n", static_cast<int>(depth), kDecoded / best);
  }
}

int Main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL [THREADS] [f32|int8] [TOP_K] [MAX_LENGTH]\n", argv[0]);
    return 2;
  }
  ModelLoadOptions options;
  options.name = "bench";
  options.path = argv[1];
  if (argc > 2) options.threads = std::atoi(argv[2]);
  if (argc > 3 && std::string(argv[3]) == "f32") {
    options.numerics = ModelLoadOptions::Numerics::kF32;
  }
  if (argc > 4) options.default_policy.top_k = std::atoi(argv[4]);
  const auto start = Clock::now();
  const auto model = LoadModel(options);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 1;
  }
  std::printf("%s, %d threads, loaded in %.2f s, %.1f MB of weights\n",
              (*model)->info().numerics.c_str(), options.threads, SecondsSince(start),
              (*model)->info().weight_bytes / 1e6);
  Measure(**model, argc > 5 ? std::atoi(argv[5]) : 8000);
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
