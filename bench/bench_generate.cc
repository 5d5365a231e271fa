// bench_generate: what one model does on this machine, without a server around it.
//
//   bench_generate --model=FILE [--threads=2] [--numerics=int8|f32] [--exact | --top_k=K]
//                  [--ids=FILE] [--runs=3] [--only=ROW] [--json]
//
// Rows: prefill tokens/s of 512, 2,048 and 8,000 tokens; decode tokens/s behind 0, 2,048 and 8,000
// tokens; seconds to the first token of a 64-token question behind 8,000 cached tokens; seconds to
// load; peak resident bytes. Every row is the best of --runs. Rows that do not fit the window are
// left out. --ids names a file with the prompt's token ids, separated by white space, so that peers
// can be given the same prompt; without it the ids are a fixed pseudo-random walk.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "server/base/spin_limit.h"
#include "server/model/aligned_buffer.h"
#include "server/model/model_loader.h"

namespace lectern {
namespace {

constexpr int kSliceTokens = 512;
constexpr int kDecodeTokens = 64;
constexpr int kQuestionTokens = 64;

struct Options {
  ModelLoadOptions model;
  AttentionPolicy policy;
  std::string ids_file;
  std::string only;
  int runs = 3;
  bool json = false;
};

struct Row {
  std::string name;
  double value;
  const char* unit;
};

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "bench_generate: %s\n", message.c_str());
  std::exit(2);
}

// One sequence with pages of its own.
class Session {
 public:
  Session(const Model& model, const AttentionPolicy& policy, int64_t max_tokens)
      : model_(model), policy_(policy), workspace_(model.NewWorkspace()) {
    const ModelInfo& info = model.info();
    const int64_t count = (max_tokens + info.page_tokens - 1) / info.page_tokens;
    std::byte* memory = memory_.Reserve(count * info.page_bytes);
    for (int64_t i = 0; i < count; ++i) pages_.push_back(memory + i * info.page_bytes);
    logits_.resize(info.vocabulary);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Reads tokens behind `position` in slices; returns the most likely next token.
  int32_t Read(std::span<const int32_t> tokens, int64_t position) {
    while (!tokens.empty()) {
      const auto part = tokens.first(std::min<size_t>(tokens.size(), kSliceTokens));
      tokens = tokens.subspan(part.size());
      ForwardSlice slice{.tokens = part, .position = position, .pages = pages_, .policy = &policy_};
      if (tokens.empty()) slice.logits = logits_.data();
      const absl::Status status = model_.Forward({&slice, 1}, *workspace_);
      if (!status.ok()) Fail(status.ToString());
      position += static_cast<int64_t>(part.size());
    }
    return static_cast<int32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
  }

 private:
  const Model& model_;
  const AttentionPolicy& policy_;
  std::unique_ptr<Workspace> workspace_;
  AlignedBuffer<std::byte> memory_;
  std::vector<std::byte*> pages_;
  std::vector<float> logits_;
};

std::vector<int32_t> PromptIds(const Options& options, const ModelInfo& info) {
  std::vector<int32_t> ids;
  if (!options.ids_file.empty()) {
    std::ifstream file(options.ids_file);
    for (int32_t id; file >> id;) ids.push_back(id);
    if (ids.empty()) Fail("no token ids in " + options.ids_file);
    return ids;
  }
  uint32_t state = 1;
  for (int i = 0; i < 8192; ++i) {
    state = state * 1664525u + 1013904223u;
    ids.push_back(static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(info.vocabulary)));
  }
  return ids;
}

double PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

std::string Label(int64_t tokens) {
  return tokens >= 1000 ? std::to_string(tokens / 1000) + "k" : std::to_string(tokens);
}

class Bench {
 public:
  Bench(const Options& options, const Model& model)
      : options_(options), model_(model), ids_(PromptIds(options, model.info())) {}

  std::vector<Row> Run() {
    const std::span<const int32_t> ids(ids_);
    for (const int64_t length : {512, 2048, 8000}) {
      if (!Fits(length)) continue;
      Measure("prefill_" + Label(length), "tokens/s", length, [&](Session& session) {
        return length / Seconds([&] { session.Read(ids.first(length), 0); });
      });
    }
    for (const int64_t depth : {0, 2048, 8000}) {
      if (!Fits(depth + kDecodeTokens + 1)) continue;
      Measure("decode_" + Label(depth), "tokens/s", depth + kDecodeTokens + 1,
              [&](Session& session) { return DecodeRate(session, depth); });
    }
    if (Fits(8000 + kQuestionTokens)) {
      Measure("ttft_cached_8k", "s", 8000 + kQuestionTokens, [&](Session& session) {
        if (!cached_) session.Read(ids.first(8000), 0);
        cached_ = true;
        return Seconds([&] { session.Read(ids.subspan(100, kQuestionTokens), 8000); });
      });
    }
    if (options_.only.empty() || options_.only == "rss_8k") MeasureMemory();
    return rows_;
  }

 private:
  bool Fits(int64_t tokens) const {
    return tokens <= model_.info().window &&
           static_cast<int64_t>(ids_.size()) >= std::min<int64_t>(tokens, 8000);
  }

  // `once` gives one run's figure; sessions are kept between the runs of a row.
  void Measure(const std::string& name, const char* unit, int64_t tokens,
               const std::function<double(Session&)>& once) {
    if (!options_.only.empty() && options_.only != name) return;
    const bool smaller_is_better = std::strcmp(unit, "s") == 0;
    Session session(model_, options_.policy, tokens);
    double best = 0;
    for (int run = 0; run < options_.runs; ++run) {
      const double value = once(session);
      const bool better = smaller_is_better ? value < best : value > best;
      if (run == 0 || better) best = value;
    }
    rows_.push_back({name, best, unit});
  }

  double DecodeRate(Session& session, int64_t depth) {
    const int64_t start = std::max<int64_t>(depth, 1);
    if (decode_depth_ != depth) session.Read(std::span(ids_).first(start), 0);
    decode_depth_ = depth;
    int32_t token = ids_[0];
    const double seconds = Seconds([&] {
      for (int i = 0; i < kDecodeTokens; ++i) token = session.Read({&token, 1}, start + i);
    });
    return kDecodeTokens / seconds;
  }

  void MeasureMemory() {
    if (Fits(8000)) {
      Session session(model_, options_.policy, 8000);
      session.Read(std::span(ids_).first(8000), 0);
    }
    rows_.push_back({"rss_8k", PeakResidentBytes(), "bytes"});
  }

  const Options& options_;
  const Model& model_;
  const std::vector<int32_t> ids_;
  std::vector<Row> rows_;
  int64_t decode_depth_ = -1;
  bool cached_ = false;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  options.model.name = "bench";
  options.policy = options.model.default_policy;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const size_t equals = arg.find('=');
    const std::string key = arg.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : arg.substr(equals + 1);
    if (key == "--model") {
      options.model.path = value;
    } else if (key == "--threads") {
      options.model.threads = std::atoi(value.c_str());
    } else if (key == "--numerics" && (value == "int8" || value == "f32")) {
      options.model.numerics = value == "f32" ? ModelLoadOptions::Numerics::kF32
                                              : ModelLoadOptions::Numerics::kInt8Rotated;
    } else if (key == "--exact") {
      options.policy = AttentionPolicy::Exact();
    } else if (key == "--top_k") {
      options.policy.top_k = std::atoll(value.c_str());
    } else if (key == "--ids") {
      options.ids_file = value;
    } else if (key == "--runs") {
      options.runs = std::atoi(value.c_str());
    } else if (key == "--only") {
      options.only = value;
    } else if (key == "--json") {
      options.json = true;
    } else {
      Fail("unknown option " + arg + "; the head of bench/bench_generate.cc lists them");
    }
  }
  if (options.model.path.empty()) Fail("--model=FILE is required");
  if (options.model.threads < 1 || options.runs < 1) Fail("--threads and --runs must be positive");
  return options;
}

void Print(const std::vector<Row>& rows, bool json) {
  if (!json) {
    for (const Row& row : rows) {
      std::printf("%-16s %14.3f %s\n", row.name.c_str(), row.value, row.unit);
    }
    return;
  }
  std::printf("{\"rows\": [");
  for (size_t i = 0; i < rows.size(); ++i) {
    std::printf("%s{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}", i == 0 ? "" : ", ",
                rows[i].name.c_str(), rows[i].value, rows[i].unit);
  }
  std::printf("]}\n");
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  absl::StatusOr<std::shared_ptr<const Model>> model = absl::UnknownError("not loaded");
  const double load_seconds = Seconds([&] { model = LoadModel(options.model); });
  if (!model.ok()) Fail(model.status().ToString());
  std::vector<Row> rows = Bench(options, **model).Run();
  if (options.only.empty() || options.only == "load") rows.push_back({"load", load_seconds, "s"});
  Print(rows, options.json);
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) {
  lectern::LimitSpinning(argv);
  return lectern::Main(argc, argv);
}
