// bench_generate: what one model does on this machine, without a server around it.
//
//   bench_generate --model=FILE [--threads=2] [--numerics=auto|blocks|int8|f32] [--exact |
//   --top_k=K]
//                  [--ids=FILE] [--runs=3] [--median] [--only=ROW,ROW...] [--json]
//
// Rows: seconds from the start of the process to the first token of a 16-token prompt ("load");
// prefill tokens/s of 8,000, 2,048 and 512 tokens; decode tokens/s behind 8,000, 2,048 and 0
// tokens; seconds to the first token of a 64-token question behind 8,000 cached tokens; peak
// resident bytes up to the end of the first 8,000 tokens; tokens/s of one (answers_1) and of eight
// (answers_8) answers at once of 128 tokens on one document of 6,016 cached tokens, to questions of
// 64 tokens, reading the questions included. Every row is the best (or median) of
// --runs, of fewer when it has taken five seconds. Rows that do not fit the window are left out.
// --ids names a file with the prompt's token ids, separated by white space, so that peers can be
// given the same prompt; without it the ids are a fixed pseudo-random walk.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench/bench_session.h"
#include "server/base/spin_limit.h"
#include "server/model/model_loader.h"

namespace lectern {
namespace {

constexpr int kDecodeTokens = 64;
constexpr int kQuestionTokens = 64;
constexpr int kAnswerPromptTokens = 16;
constexpr int kDocumentTokens = 6016;
constexpr int kAnswerTokens = 128;
constexpr double kRowSeconds = 5;

struct Options {
  ModelLoadOptions model;
  AttentionPolicy policy;
  std::string ids_file;
  std::string only;
  int runs = 3;
  bool median = false;
  bool json = false;
};

struct Row {
  std::string name;
  double value;
  const char* unit;
};

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "bench_generate: %s\n", message.c_str());
  std::exit(2);
}

std::vector<int32_t> PromptIds(const Options& options, const ModelInfo& info) {
  std::vector<int32_t> ids;
  if (!options.ids_file.empty()) {
    std::ifstream file(options.ids_file);
    for (int32_t id; file >> id;) ids.push_back(id);
    if (ids.size() < kAnswerPromptTokens) Fail("too few token ids in " + options.ids_file);
    return ids;
  }
  return PseudoRandomIds(8192, info.vocabulary);
}

double PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

// Dynamic linking included; the kernel counts it in ticks of 10 ms.
double SecondsSinceProcessStart() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream fields(text.substr(text.rfind(')') + 2));  // from field 3 on
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 -
         std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::string Label(int64_t tokens) {
  return tokens >= 1000 ? std::to_string(tokens / 1000) + "k" : std::to_string(tokens);
}

class Bench {
 public:
  Bench(const Options& options, const Model& model)
      : options_(options), model_(model), ids_(PromptIds(options, model.info())) {}

  // The first answer comes first, then the longest prompt: its memory is the process's peak.
  std::vector<Row> Run() {
    if (Wanted("load")) rows_.push_back({"load", SecondsToFirstAnswer(), "s"});
    MeasurePrompt(8000, 8000);
    MeasurePrompt(2048, 2048);
    MeasurePrompt(512, 0);
    MeasureAnswers();
    return rows_;
  }

 private:
  bool Wanted(const std::string& name) const {
    return options_.only.empty() ||
           ("," + options_.only + ",").find("," + name + ",") != std::string::npos;
  }

  double SecondsToFirstAnswer() {
    BenchSession session(model_, kAnswerPromptTokens);
    session.Read(std::span(ids_).first(kAnswerPromptTokens), 0, options_.policy);
    return SecondsSinceProcessStart();
  }

  // All rows of one prompt share a session: reading `length` tokens, then decoding behind the first
  // `depth` of them.
  void MeasurePrompt(int64_t length, int64_t depth) {
    if (length > std::min<int64_t>(model_.info().window, std::ssize(ids_))) return;
    const std::string prefill = "prefill_" + Label(length);
    const std::string decode = "decode_" + Label(depth);
    const bool memory = length == 8000 && Wanted("rss_8k");
    const bool first_token = length == 8000 && Wanted("ttft_cached_8k");
    if (!memory && !first_token && !Wanted(prefill) && !Wanted(decode)) return;
    const int64_t end = std::min(length + kDecodeTokens + 1, model_.info().window);
    BenchSession session(model_, end);
    const auto prompt = std::span<const int32_t>(ids_).first(length);
    if (Wanted(prefill)) {
      Measure(prefill, "tokens/s",
              [&] { return length / Seconds([&] { session.Read(prompt, 0, options_.policy); }); });
    } else {
      session.Read(prompt, 0, options_.policy);
    }
    if (memory) rows_.push_back({"rss_8k", PeakResidentBytes(), "bytes"});
    if (end < length + kDecodeTokens + 1) return;
    if (Wanted(decode)) {
      Measure(decode, "tokens/s", [&] { return DecodeRate(session, depth); });
    }
    if (first_token) {
      const auto question = prompt.subspan(100, kQuestionTokens);
      Measure("ttft_cached_8k", "s",
              [&] { return Seconds([&] { session.Read(question, length, options_.policy); }); });
    }
  }

  void MeasureAnswers() {
    if (!Wanted("answers_1") && !Wanted("answers_8")) return;
    const int64_t end = kDocumentTokens + kQuestionTokens + kAnswerTokens;
    if (end > std::min<int64_t>(model_.info().window, std::ssize(ids_))) return;
    BenchSession document(model_, kDocumentTokens);
    document.Read(std::span(ids_).first(kDocumentTokens), 0, options_.policy);
    const auto question = std::span(ids_).subspan(100, kQuestionTokens);
    for (const int count : {1, 8}) {
      const std::string name = "answers_" + std::to_string(count);
      if (!Wanted(name)) continue;
      std::vector<std::unique_ptr<BenchSession>> sessions;
      for (int i = 0; i < count; ++i) {
        sessions.push_back(std::make_unique<BenchSession>(document, kDocumentTokens, end));
      }
      Measure(name, "tokens/s", [&] {
        return count * kAnswerTokens / Seconds([&] {
                 AnswerTogether(sessions, question, kDocumentTokens, kAnswerTokens,
                                options_.policy);
               });
      });
    }
  }

  // The best or median of --runs calls of `once`, which gives one run's figure. Long rows are
  // repeated less.
  void Measure(const std::string& name, const char* unit, const std::function<double()>& once) {
    std::vector<double> values;
    double spent = 0;
    while (std::ssize(values) < options_.runs && spent < kRowSeconds) {
      spent += Seconds([&] { values.push_back(once()); });
    }
    std::sort(values.begin(), values.end());
    const bool smaller_is_better = std::strcmp(unit, "s") == 0;
    const double best = smaller_is_better ? values.front() : values.back();
    rows_.push_back({name, options_.median ? values[values.size() / 2] : best, unit});
  }

  double DecodeRate(BenchSession& session, int64_t depth) {
    const int64_t start = std::max<int64_t>(depth, 1);
    const double seconds =
        Seconds([&] { session.Decode(ids_[0], kDecodeTokens, start, options_.policy); });
    return kDecodeTokens / seconds;
  }

  const Options& options_;
  const Model& model_;
  const std::vector<int32_t> ids_;
  std::vector<Row> rows_;
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
    } else if (key == "--numerics" && ParseNumerics(value, options.model.numerics)) {
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
    } else if (key == "--median") {
      options.median = true;
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
  const absl::StatusOr<std::shared_ptr<const Model>> model = LoadModel(options.model);
  if (!model.ok()) Fail(model.status().ToString());
  Print(Bench(options, **model).Run(), options.json);
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) {
  lectern::LimitSpinning(argv);
  return lectern::Main(argc, argv);
}
