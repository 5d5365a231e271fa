// bench_encoder: measures a T5 or BERT model on this machine, without a server. --help describes
// the rows and flags.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bench/models/bench_rows.h"
#include "bench/models/bench_session.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

constexpr char kIntroduction[] =
    R"(bench_encoder: measures a T5 or BERT model on this machine, without a server.

Rows, where FAMILY is t5 or bert:
  FAMILY_encode_512, FAMILY_encode_4k  tokens/s of the encoder alone over one window of 512 or 4,096
                                       tokens
  FAMILY_rss_4k                        peak resident bytes up to the end of the first 4,096 tokens
  t5_decode                            tokens/s of 64 greedy tokens after an encoded window of 512
Windows longer than the model's limit are left out. Attention is dense unless --top_k is given.
)";
constexpr int64_t kShortWindow = 512;
constexpr int64_t kLongWindow = 4096;
constexpr int kDecodeTokens = 64;

class Bench {
 public:
  Bench(const BenchOptions& options, const Model& model)
      : options_(options),
        model_(model),
        family_(model.info().family),
        ids_(BenchIds(options, model.info().vocabulary, kLongWindow, kShortWindow)),
        begins_(kLongWindow),
        ends_(kLongWindow),
        workspace_(model.NewWorkspace()),
        rows_(options) {}

  // The longest window comes first: its memory is the process's peak.
  const BenchRows& Run() {
    MeasureWindow(kLongWindow, "4k");
    MeasureWindow(kShortWindow, "512");
    MeasureDecode();
    return rows_;
  }

 private:
  void MeasureWindow(int64_t tokens, const std::string& label) {
    const std::string speed = family_ + "_encode_" + label;
    const std::string memory = family_ + "_rss_" + label;
    const bool wants_memory = tokens == kLongWindow && rows_.Wanted(memory);
    if (tokens > std::min<int64_t>(model_.info().context_length, std::ssize(ids_))) return;
    if (!wants_memory && !rows_.Wanted(speed)) return;
    Encode(tokens);
    if (wants_memory) rows_.Add(memory, PeakResidentBytes(), "bytes");
    if (!rows_.Wanted(speed)) return;
    rows_.Measure(speed, "tokens/s", [&] { return static_cast<double>(tokens) / Encode(tokens); });
  }

  double Encode(int64_t tokens) {
    ForwardSlice slice;
    slice.tokens = std::span<const int32_t>(ids_).first(tokens);
    slice.policy = &options_.policy;
    slice.encode = true;
    if (model_.info().kind == ModelKind::kExtractive) {
      slice.span_begins = begins_.data();
      slice.span_ends = ends_.data();
    }
    return Seconds([&] { RunStep(model_, {&slice, 1}, *workspace_); });
  }

  void MeasureDecode() {
    const std::string name = family_ + "_decode";
    if (model_.info().kind != ModelKind::kSeq2Seq || !rows_.Wanted(name)) return;
    const BenchPages memory(model_, kShortWindow), pages(model_, kDecodeTokens + 1);
    ForwardSlice window;
    window.tokens = std::span<const int32_t>(ids_).first(kShortWindow);
    window.pages = memory.pages();
    window.policy = &options_.policy;
    window.encode = true;
    RunStep(model_, {&window, 1}, *workspace_);
    std::vector<float> logits(model_.info().vocabulary);
    int32_t token = 0;
    const auto step = [&](int position) {
      ForwardSlice slice;
      slice.tokens = {&token, 1};
      slice.position = position;
      slice.pages = pages.pages();
      slice.policy = &options_.policy;
      slice.memory = memory.pages();
      slice.memory_tokens = kShortWindow;
      slice.logits = logits.data();
      RunStep(model_, {&slice, 1}, *workspace_);
      token = MostLikely(logits);
    };
    rows_.Measure(name, "tokens/s", [&] {
      token = model_.decoder_start();
      step(0);
      return kDecodeTokens / Seconds([&] {
               for (int i = 1; i <= kDecodeTokens; ++i) step(i);
             });
    });
  }

  const BenchOptions& options_;
  const Model& model_;
  const std::string family_;
  const std::vector<int32_t> ids_;
  std::vector<float> begins_;
  std::vector<float> ends_;
  const std::unique_ptr<Workspace> workspace_;
  BenchRows rows_;
};

int Main(int argc, char** argv) {
  const BenchOptions options =
      ParseBenchOptions({.name = "bench_encoder", .introduction = kIntroduction},
                        AttentionPolicy::Exact(), argc, argv);
  const absl::StatusOr<std::shared_ptr<const Model>> model = LoadModel(options.model);
  if (!model.ok()) BenchFail(model.status().ToString());
  if ((*model)->info().kind == ModelKind::kGenerative) {
    BenchFail(options.model.path + " has no encoder; bench_generate measures it");
  }
  Bench(options, **model).Run().Print();
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
