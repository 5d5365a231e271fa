// measure_quality: asks the engine the questions of a set and prints the results. --help describes
// the set and the flags.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/flags/flag_table.h"
#include "bench/answers/asking.h"
#include "server/engine/engine.h"
#include "server/metrics/server_metrics.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr char kIntroduction[] =
    R"(measure_quality: asks the engine the questions of a set, in this process, and prints the results,
one JSON object per line. bench/quality makes tables of them.

The set: {"docs": [{"id", "tokens", "sentences"}], "cases": [{"id", "doc", "depth", "question",
"answer" (null: it is not in the document), "sentence" and "insert_before_sentence", or "inserts":
[{"sentence", "insert_before_sentence"}], "evidence": the sentences to be found, if they are not those
inserted, "form": "plain" or another form}]}.
)";

std::set<std::string> Words(const std::string& list) {
  std::set<std::string> words;
  std::string word;
  for (const char c : list + ",") {
    if (c != ',') {
      word += c;
    } else if (!word.empty()) {
      words.insert(std::exchange(word, ""));
    }
  }
  return words;
}

AttentionChoice ChoiceOf(const std::string& policy) {
  AttentionChoice choice;
  if (policy == "exact") {
    choice.exact = true;
  } else if (policy.rfind("top", 0) == 0) {
    const int64_t k = std::atoll(policy.c_str() + 3);
    if (k < 1) Fail("--policy=" + policy);
    choice.overrides.Set(&AttentionPolicy::top_k, k)
        .Set(&AttentionPolicy::layer_k, {k})
        .Set(&AttentionPolicy::tail, AttentionPolicy::Tail::kNone);
  } else if (policy != "default") {
    Fail("--policy=" + policy);
  }
  return choice;
}

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// "4k" of 3,989 tokens, "7.5k" of 7,489.
std::string LengthName(uint64_t tokens) {
  const uint64_t halves = (tokens + 250) / 500;
  return std::to_string(halves / 2) + (halves % 2 == 1 ? ".5k" : "k");
}

struct Options {
  ModelLoadOptions model{.name = "model"};
  EngineOptions engine{.kv_bytes = 3'000'000'000};
  std::string set;
  std::string policy = "default";
  ReadingMode reading = ReadingMode::kAuto;
  std::string lengths;
  std::string kinds;
  int limit = 0;
  uint32_t max_new_tokens = 20;
};

std::vector<std::pair<std::string, ReadingMode>> Readings() {
  return {{"auto", ReadingMode::kAuto},
          {"whole", ReadingMode::kWhole},
          {"chunks", ReadingMode::kChunks}};
}

Options ParseOptions(int argc, char** argv) {
  Options o;
  flags::Table table({.name = "measure_quality", .introduction = kIntroduction});
  table.Add({
      {"model", flags::Required(flags::Text(&o.model.path, "FILE")), "the model"},
      {"set", flags::Required(flags::Text(&o.set, "FILE")), "the question set, JSON"},
      {"policy", flags::Text(&o.policy, "NAME"),
       "default; exact; or topN: plain top-N in every layer, the dropped keys left out"},
      {"reading", flags::Choice(&o.reading, Readings()), "how documents are read"},
      {"lengths", flags::AnyText(&o.lengths, "LENGTH,LENGTH,..."),
       "only documents of these lengths, e.g. 1k,4k", "all"},
      {"kinds", flags::AnyText(&o.kinds, "FORM,FORM,..."), "only questions of these forms", "all"},
      {"limit", flags::Number(&o.limit, 0, 1 << 30),
       "at most this many questions per length and form; 0: all"},
      {"threads", flags::Number(&o.model.threads, 1, 1024), "threads per model step"},
      {"max_new_tokens", flags::Number(&o.max_new_tokens, 1, 1 << 20), "longest answer, in tokens"},
      {"kv_bytes", flags::Bytes(&o.engine.kv_bytes), "memory for the KV cache"},
      {"no_evidence_threshold", flags::Real(&o.engine.no_evidence_threshold, 0, 1, "SHARE"),
       "as lectern-server's"},
  });
  flags::ParseOrExit(table, argc, argv);
  return o;
}

struct Document {
  std::string text;
  std::vector<std::string> facts;
};

// The document of a case: its prose with the facts put in.
Document DocumentOf(const json& prose, const json& item) {
  json inserts = item.value("inserts", json::array());
  if (item.contains("sentence") && !item["sentence"].is_null()) {
    inserts.push_back({{"sentence", item["sentence"]},
                       {"insert_before_sentence", item["insert_before_sentence"]}});
  }
  std::multimap<size_t, std::string> at;
  Document document;
  for (const json& insert : inserts) {
    document.facts.push_back(insert["sentence"]);
    at.emplace(insert["insert_before_sentence"].get<size_t>(), insert["sentence"]);
  }
  const json& sentences = prose["sentences"];
  for (size_t i = 0; i <= sentences.size(); ++i) {
    const auto [first, last] = at.equal_range(i);
    for (auto fact = first; fact != last; ++fact) document.text += fact->second + " ";
    if (i < sentences.size()) document.text += sentences[i].get<std::string>() + " ";
  }
  document.text.pop_back();
  if (item.contains("evidence")) document.facts = item["evidence"];
  return document;
}

// The number of facts contained in the first `most` spans of evidence.
size_t FactsIn(const Document& document, const Answer& answer, size_t most) {
  size_t found = 0;
  for (const std::string& fact : document.facts) {
    for (size_t i = 0; i < answer.evidence.size() && i < most; ++i) {
      if (answer.evidence[i].text.find(fact) == std::string::npos) continue;
      ++found;
      break;
    }
  }
  return found;
}

class Measurement {
 public:
  Measurement(const Options& options, Engine* engine) : options_(options), engine_(engine) {
    for (const auto& [name, mode] : Readings()) {
      if (mode == options.reading) reading_ = name;
    }
  }

  json Run(const json& prose, const json& item) {
    const Document document = DocumentOf(prose, item);
    Store(document.text);
    AskOptions ask{.document_id = stored_.id,
                   .question = item["question"],
                   .attention = ChoiceOf(options_.policy),
                   .reading = options_.reading,
                   .max_new_tokens = options_.max_new_tokens};
    const Answer answer = AskAndWait(engine_, ask);
    json row = {{"id", item["id"]},
                {"length", LengthName(prose["tokens"])},
                {"form", item.value("form", "plain")},
                {"depth", item.value("depth", 0.0)},
                {"policy", options_.policy},
                {"reading", reading_},
                {"reply", answer.text},
                {"facts", document.facts.size()},
                {"facts_at_1", FactsIn(document, answer, 1)},
                {"facts_at_3", FactsIn(document, answer, 3)},
                {"strength", answer.evidence_strength},
                {"coverage", answer.question_coverage},
                {"considered", answer.considered_ratio},
                {"no_evidence", answer.no_evidence},
                {"upload_seconds", upload_seconds_},
                {"first_text_seconds", absl::ToDoubleSeconds(answer.timings.time_to_first_text)},
                {"kv_bytes", stored_.device_bytes},
                {"document_tokens", stored_.tokens}};
    for (const EvidenceSpan& span : answer.evidence) {
      row["evidence"].push_back({{"text", span.text}, {"attention", span.attention}});
    }
    row["answerable"] = !item["answer"].is_null();
    row["match"] = !item["answer"].is_null() &&
                   Lower(answer.text).find(Lower(item["answer"])) != std::string::npos;
    return row;
  }

 private:
  // Uploads a document in place of the one before. Consecutive cases about one document share it.
  void Store(const std::string& text) {
    if (text == stored_text_) return;
    if (!stored_text_.empty()) (void)engine_->DeleteDocument(stored_.id, "");
    const absl::Duration start = Clock::Real().Steady();
    stored_ = UploadAndWait(engine_, text,
                            {.reading = options_.reading, .attention = ChoiceOf(options_.policy)});
    upload_seconds_ = absl::ToDoubleSeconds(Clock::Real().Steady() - start);
    stored_text_ = text;
  }

  const Options& options_;
  Engine* const engine_;
  std::string reading_;
  std::string stored_text_;
  DocumentInfo stored_;
  double upload_seconds_ = 0;
};

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  std::ifstream file(options.set);
  if (!file) Fail("cannot read --set=" + options.set);
  const json set = json::parse(file);
  auto model = LoadModel(options.model);
  if (!model.ok()) Fail(model.status().ToString());
  ServerMetrics metrics({"model"});
  const auto engine = Engine::Create(options.engine, {*model}, &Clock::Real(), &metrics);
  Measurement measurement(options, engine.get());
  const auto lengths = Words(options.lengths), kinds = Words(options.kinds);
  std::map<std::string, int> taken;  // by length and form
  for (const json& item : set["cases"]) {
    const auto prose = std::find_if(set["docs"].begin(), set["docs"].end(),
                                    [&](const json& d) { return d["id"] == item["doc"]; });
    if (prose == set["docs"].end()) Fail("no document " + item["doc"].get<std::string>());
    const std::string length = LengthName((*prose)["tokens"]);
    const std::string form = item.value("form", "plain");
    if (!lengths.empty() && !lengths.contains(length)) continue;
    if (!kinds.empty() && !kinds.contains(form)) continue;
    if (options.limit > 0 && taken[length + form]++ >= options.limit) continue;
    std::cout << measurement.Run(*prose, item).dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
