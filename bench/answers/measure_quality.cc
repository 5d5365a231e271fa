// measure_quality: puts the questions of a set to the engine, in this process, and prints what came
// back, one JSON object a line. bench/quality makes tables of it.
//
//   measure_quality --model=FILE --set=FILE [--policy=NAME] [--reading=auto|whole|chunks]
//                   [--lengths=1k,4k] [--kinds=plain,...] [--limit=N] [--threads=2]
//                   [--max_new_tokens=20] [--kv_bytes=N] [--no_evidence_threshold=0.6]
//
// A policy is exact, default, or topN (plain top-k: layer 0 too, what is dropped is dropped). The
// set: {"docs": [{"id", "tokens", "sentences"}], "cases": [{"id", "doc", "depth", "question",
// "answer" (null: it is not in the document), "sentence" and "insert_before_sentence", or
// "inserts":
// [{"sentence", "insert_before_sentence"}], "form": "plain" or what it is}]}.
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
#include "bench/answers/asking.h"
#include "server/engine/engine.h"
#include "server/metrics/server_metrics.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

using nlohmann::json;

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
    choice.top_k = k;
    choice.layer_top_k = {k};
    choice.tail = AttentionPolicy::Tail::kNone;
  } else if (policy != "default") {
    Fail("--policy=" + policy);
  }
  return choice;
}

ReadingMode ReadingOf(const std::string& name) {
  if (name == "auto") return ReadingMode::kAuto;
  if (name == "whole") return ReadingMode::kWhole;
  if (name == "chunks") return ReadingMode::kChunks;
  Fail("--reading=" + name);
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

struct Flags {
  std::map<std::string, std::string> values = {{"policy", "default"},
                                               {"reading", "auto"},
                                               {"threads", "2"},
                                               {"limit", "0"},
                                               {"lengths", ""},
                                               {"kinds", ""},
                                               {"kv_bytes", "3000000000"},
                                               {"no_evidence_threshold", "0.6"},
                                               {"max_new_tokens", "20"}};
  const std::string& operator[](const std::string& name) { return values[name]; }
};

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    if (word.rfind("--", 0) != 0 || equals == std::string::npos) Fail("unknown option " + word);
    flags.values[word.substr(2, equals - 2)] = word.substr(equals + 1);
  }
  return flags;
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
  return document;
}

// Facts that stand in the first `most` spans of evidence.
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
  Measurement(Flags& flags, Engine* engine)
      : engine_(engine),
        policy_(flags["policy"]),
        reading_(flags["reading"]),
        max_new_tokens_(static_cast<uint32_t>(std::atoi(flags["max_new_tokens"].c_str()))) {}

  json Run(const json& prose, const json& item) {
    const Document document = DocumentOf(prose, item);
    UploadOptions upload{.reading = ReadingOf(reading_), .attention = ChoiceOf(policy_)};
    const absl::Duration start = Clock::Real().Steady();
    const DocumentInfo info = UploadAndWait(engine_, document.text, upload);
    const absl::Duration uploaded = Clock::Real().Steady();
    AskOptions ask{.document_id = info.id,
                   .question = item["question"],
                   .attention = upload.attention,
                   .reading = upload.reading,
                   .max_new_tokens = max_new_tokens_};
    const Answer answer = AskAndWait(engine_, ask);
    (void)engine_->DeleteDocument(info.id, "");
    json row = {{"id", item["id"]},
                {"length", LengthName(prose["tokens"])},
                {"form", item.value("form", "plain")},
                {"depth", item.value("depth", 0.0)},
                {"policy", policy_},
                {"reading", reading_},
                {"reply", answer.text},
                {"facts", document.facts.size()},
                {"facts_at_1", FactsIn(document, answer, 1)},
                {"facts_at_3", FactsIn(document, answer, 3)},
                {"strength", answer.evidence_strength},
                {"coverage", answer.question_coverage},
                {"considered", answer.considered_ratio},
                {"no_evidence", answer.no_evidence},
                {"upload_seconds", absl::ToDoubleSeconds(uploaded - start)},
                {"first_text_seconds", absl::ToDoubleSeconds(answer.timings.time_to_first_text)},
                {"kv_bytes", info.device_bytes},
                {"document_tokens", info.tokens}};
    for (const EvidenceSpan& span : answer.evidence) {
      row["evidence"].push_back({{"text", span.text}, {"attention", span.attention}});
    }
    row["answerable"] = !item["answer"].is_null();
    row["match"] = !item["answer"].is_null() &&
                   Lower(answer.text).find(Lower(item["answer"])) != std::string::npos;
    return row;
  }

 private:
  Engine* const engine_;
  const std::string policy_;
  const std::string reading_;
  const uint32_t max_new_tokens_;
};

int Main(int argc, char** argv) {
  Flags flags = ParseFlags(argc, argv);
  std::ifstream file(flags["set"]);
  if (!file) Fail("cannot read --set=" + flags["set"]);
  const json set = json::parse(file);
  auto model = LoadModel(
      {.name = "model", .path = flags["model"], .threads = std::atoi(flags["threads"].c_str())});
  if (!model.ok()) Fail(model.status().ToString());
  ServerMetrics metrics({"model"});
  EngineOptions options;
  options.no_evidence_threshold = std::strtod(flags["no_evidence_threshold"].c_str(), nullptr);
  options.kv_bytes = std::strtoull(flags["kv_bytes"].c_str(), nullptr, 10);
  const auto engine = Engine::Create(options, {*model}, &Clock::Real(), &metrics);
  Measurement measurement(flags, engine.get());
  const auto lengths = Words(flags["lengths"]), kinds = Words(flags["kinds"]);
  const int limit = std::atoi(flags["limit"].c_str());
  std::map<std::string, int> taken;  // of each length and form
  for (const json& item : set["cases"]) {
    const auto prose = std::find_if(set["docs"].begin(), set["docs"].end(),
                                    [&](const json& d) { return d["id"] == item["doc"]; });
    if (prose == set["docs"].end()) Fail("no document " + item["doc"].get<std::string>());
    const std::string length = LengthName((*prose)["tokens"]);
    const std::string form = item.value("form", "plain");
    if (!lengths.empty() && !lengths.contains(length)) continue;
    if (!kinds.empty() && !kinds.contains(form)) continue;
    if (limit > 0 && taken[length + form]++ >= limit) continue;
    std::cout << measurement.Run(*prose, item).dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
