// bench_generate: measures a generative model on this machine, without a server. --help describes
// the rows and flags.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench/models/bench_rows.h"
#include "bench/models/bench_session.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

constexpr char kIntroduction[] =
    R"(bench_generate: measures a generative model on this machine, without a server.

Rows:
  load             seconds from the start of the process to the first token of a 16-token prompt
  prefill_8k/2k/512  prefill tokens/s of prompts of 8,000, 2,048 and 512 tokens
  decode_8k/2k/0   decoded tokens/s after 8,000, 2,048 and 0 tokens
  ttft_cached_8k   seconds to the first token of a 64-token question after 8,000 cached tokens
  rss_8k/2k        peak resident bytes up to the end of the first 8,000 or 2,048 tokens; rss_2k is left
                   out where 8,000 tokens are read as well
  answers_1/8      tokens/s of one and of eight concurrent 128-token answers to 64-token questions
                   about one document of 6,016 cached tokens, prefill of the questions included
Rows that exceed the context length are left out.
)";
constexpr int kDecodeTokens = 64;
constexpr int kQuestionTokens = 64;
constexpr int kAnswerPromptTokens = 16;
constexpr int kDocumentTokens = 6016;
constexpr int kAnswerTokens = 128;
constexpr int64_t kMostIds = 8192;

// Includes dynamic linking; the kernel counts in ticks of 10 ms.
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
  Bench(const BenchOptions& options, const Model& model)
      : options_(options),
        model_(model),
        ids_(BenchIds(options, model.info().vocabulary, kMostIds, kAnswerPromptTokens)),
        rows_(options) {}

  // The first answer comes first, then the longest prompt: its memory is the process's peak.
  const BenchRows& Run() {
    if (rows_.Wanted("load")) rows_.Add("load", SecondsToFirstAnswer(), "s");
    MeasurePrompt(8000, 8000);
    MeasurePrompt(2048, 2048);
    MeasurePrompt(512, 0);
    MeasureAnswers();
    return rows_;
  }

 private:
  double SecondsToFirstAnswer() {
    BenchSession session(model_, kAnswerPromptTokens);
    session.Read(std::span(ids_).first(kAnswerPromptTokens), 0, options_.policy);
    return SecondsSinceProcessStart();
  }

  // All rows of one prompt share a session: reading `length` tokens, then decoding after the first
  // `depth` of them.
  void MeasurePrompt(int64_t length, int64_t depth) {
    if (length > std::min<int64_t>(model_.info().context_length, std::ssize(ids_))) return;
    const std::string prefill = "prefill_" + Label(length);
    const std::string decode = "decode_" + Label(depth);
    const std::string peak = "rss_" + Label(length);
    const bool memory = length > most_read_ && length >= 2048 && rows_.Wanted(peak);
    const bool first_token = length == 8000 && rows_.Wanted("ttft_cached_8k");
    if (!memory && !first_token && !rows_.Wanted(prefill) && !rows_.Wanted(decode)) return;
    const int64_t end = std::min(length + kDecodeTokens + 1, model_.info().context_length);
    BenchSession session(model_, end);
    most_read_ = std::max(most_read_, length);
    const auto prompt = std::span<const int32_t>(ids_).first(length);
    if (rows_.Wanted(prefill)) {
      rows_.Measure(prefill, "tokens/s", [&] {
        return length / Seconds([&] { session.Read(prompt, 0, options_.policy); });
      });
    } else {
      session.Read(prompt, 0, options_.policy);
    }
    if (memory) rows_.Add(peak, PeakResidentBytes(), "bytes");
    if (end < length + kDecodeTokens + 1) return;
    if (rows_.Wanted(decode)) {
      rows_.Measure(decode, "tokens/s", [&] { return DecodeRate(session, depth); });
    }
    if (first_token) {
      const auto question = prompt.subspan(100, kQuestionTokens);
      rows_.Measure("ttft_cached_8k", "s", [&] {
        return Seconds([&] { session.Read(question, length, options_.policy); });
      });
    }
  }

  void MeasureAnswers() {
    if (!rows_.Wanted("answers_1") && !rows_.Wanted("answers_8")) return;
    const int64_t end = kDocumentTokens + kQuestionTokens + kAnswerTokens;
    if (end > std::min<int64_t>(model_.info().context_length, std::ssize(ids_))) return;
    BenchSession document(model_, kDocumentTokens);
    document.Read(std::span(ids_).first(kDocumentTokens), 0, options_.policy);
    const auto question = std::span(ids_).subspan(100, kQuestionTokens);
    for (const int count : {1, 8}) {
      const std::string name = "answers_" + std::to_string(count);
      if (!rows_.Wanted(name)) continue;
      std::vector<std::unique_ptr<BenchSession>> sessions;
      for (int i = 0; i < count; ++i) {
        sessions.push_back(std::make_unique<BenchSession>(document, kDocumentTokens, end));
      }
      rows_.Measure(name, "tokens/s", [&] {
        return count * kAnswerTokens / Seconds([&] {
                 AnswerTogether(sessions, question, kDocumentTokens, kAnswerTokens,
                                options_.policy);
               });
      });
    }
  }

  double DecodeRate(BenchSession& session, int64_t depth) {
    const int64_t start = std::max<int64_t>(depth, 1);
    const double seconds =
        Seconds([&] { session.Decode(ids_[0], kDecodeTokens, start, options_.policy); });
    return kDecodeTokens / seconds;
  }

  const BenchOptions& options_;
  const Model& model_;
  const std::vector<int32_t> ids_;
  int64_t most_read_ = 0;  // tokens of the longest prompt so far, which made the process's peak
  BenchRows rows_;
};

int Main(int argc, char** argv) {
  const BenchOptions options =
      ParseBenchOptions({.name = "bench_generate", .introduction = kIntroduction},
                        ModelLoadOptions{}.default_policy, argc, argv);
  const absl::StatusOr<std::shared_ptr<const Model>> model = LoadModel(options.model);
  if (!model.ok()) BenchFail(model.status().ToString());
  Bench(options, **model).Run().Print();
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
