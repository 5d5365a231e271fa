// measure_embedding: what top-k attention and int8 cost a BERT encoder's sentence embeddings.
// --help describes the output and the flags.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/flags/flag_table.h"
#include "bench/answers/asking.h"
#include "bench/answers/embedding.h"

namespace lectern {
namespace {

using Numerics = ModelLoadOptions::Numerics;

constexpr char kIntroduction[] =
    R"(measure_embedding: what top-k attention and int8 cost a BERT encoder's sentence embeddings.

The reference is fp32 with dense attention. Prints one JSON line for each other combination of
numerics, k (0: dense) and tail, with top-k in every layer: {"numerics", "k", "tail", "texts",
"mean_cosine", "least_cosine"}.
)";

std::vector<std::vector<float>> EmbedAll(const Embedder& embedder,
                                         const std::vector<std::string>& texts,
                                         const AttentionPolicy& policy) {
  std::vector<std::vector<float>> embeddings;
  for (const std::string& text : texts) {
    auto embedding = embedder.Embed(text, policy);
    if (!embedding.ok()) Fail("measure_embedding: " + embedding.status().ToString());
    embeddings.push_back(*std::move(embedding));
  }
  return embeddings;
}

void PrintRow(const char* numerics, int64_t k, const char* tail,
              const std::vector<std::vector<float>>& reference,
              const std::vector<std::vector<float>>& embeddings) {
  double sum = 0, least = 1;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double cosine = Cosine(reference[i], embeddings[i]);
    sum += cosine;
    least = std::min(least, cosine);
  }
  std::printf(
      "{\"numerics\": \"%s\", \"k\": %lld, \"tail\": \"%s\", \"texts\": %zu, \"mean_cosine\": "
      "%.6f, \"least_cosine\": %.6f}\n",
      numerics, static_cast<long long>(k), tail, reference.size(),
      sum / static_cast<double>(reference.size()), least);
}

struct Options {
  std::string model;
  std::string texts;
  uint64_t least_tokens = 1;
  int threads = 2;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  flags::Table table({.name = "measure_embedding", .introduction = kIntroduction});
  table.Add({
      {"model", flags::Required(flags::Text(&options.model, "DIR")), "a BERT encoder's folder"},
      {"texts", flags::Required(flags::Text(&options.texts, "FILE")), "a JSON list of strings"},
      {"least_tokens", flags::Number(&options.least_tokens, 1, 1 << 20),
       "leave out texts with fewer tokens"},
      {"threads", flags::Number(&options.threads, 1, 1024), "threads per model step"},
  });
  flags::ParseOrExit(table, argc, argv);
  return options;
}

std::unique_ptr<Embedder> Load(const Options& options, Numerics numerics) {
  auto embedder = Embedder::Load(options.model, numerics, options.threads);
  if (!embedder.ok()) Fail("measure_embedding: " + embedder.status().ToString());
  return *std::move(embedder);
}

// The texts with at least the given number of tokens.
std::vector<std::string> ReadTexts(const std::string& path, size_t least_tokens,
                                   const Embedder& embedder) {
  std::ifstream file(path);
  if (!file) Fail("measure_embedding: cannot read --texts=" + path);
  auto texts = nlohmann::json::parse(file).get<std::vector<std::string>>();
  std::erase_if(texts, [&](const auto& text) { return embedder.Ids(text).size() < least_tokens; });
  if (texts.empty()) Fail("measure_embedding: no text has that number of tokens");
  return texts;
}

void PrintTopKRows(const char* numerics, const Embedder& embedder,
                   const std::vector<std::string>& texts,
                   const std::vector<std::vector<float>>& reference) {
  for (const auto& [tail, tail_name] : {std::pair(AttentionPolicy::Tail::kNone, "none"),
                                        std::pair(AttentionPolicy::Tail::kMean, "mean")}) {
    for (const int64_t k : {8, 16, 32, 64, 128}) {
      AttentionPolicy policy = AttentionPolicy::Exact();
      policy.top_k = k;
      policy.tail = tail;
      PrintRow(numerics, k, tail_name, reference, EmbedAll(embedder, texts, policy));
    }
  }
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  const auto f32 = Load(options, Numerics::kF32), int8 = Load(options, Numerics::kInt8Rotated);
  const auto texts = ReadTexts(options.texts, options.least_tokens, *f32);
  const AttentionPolicy dense = AttentionPolicy::Exact();
  const auto reference = EmbedAll(*f32, texts, dense);
  PrintTopKRows("f32", *f32, texts, reference);
  PrintRow("int8", 0, "none", reference, EmbedAll(*int8, texts, dense));
  PrintTopKRows("int8", *int8, texts, reference);
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
