// measure_reader: puts questions about passages to a model, under one setting after the other, and
// prints the replies, one JSON object a line. bench/unifiedqa makes a table of it.
//
//   measure_reader --model=FOLDER --data=FILE.jsonl --settings=dense,ffn16,attention8,...
//                  [--limit=N] [--threads=2] [--numerics=auto|blocks|int8|f32]
//                  [--max_new_tokens=48]
//
// A line of the data: {"id", "context", "question", ...}. A setting: dense; ffnK (K units of every
// feed-forward layer by the signed rule of the paper, where the model offers it); attentionK (K
// keys in every layer of every kind of attention, the rest dropped).
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
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

struct Flags {
  std::string model, data, settings = "dense";
  size_t limit = 0;
  int threads = 2;
  uint32_t max_new_tokens = 48;
  ModelLoadOptions::Numerics numerics = ModelLoadOptions::Numerics::kAuto;
};

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (name == "--model") {
      flags.model = value;
    } else if (name == "--data") {
      flags.data = value;
    } else if (name == "--settings") {
      flags.settings = value;
    } else if (name == "--limit") {
      flags.limit = std::strtoull(value.c_str(), nullptr, 10);
    } else if (name == "--threads") {
      flags.threads = std::atoi(value.c_str());
    } else if (name == "--max_new_tokens") {
      flags.max_new_tokens = static_cast<uint32_t>(std::atoi(value.c_str()));
    } else if (name == "--numerics" && ParseNumerics(value, flags.numerics)) {
    } else {
      Fail("measure_reader: unknown option " + word);
    }
  }
  return flags;
}

// The number behind `prefix`, or 0 if the setting is another.
int64_t KOf(const std::string& setting, const std::string& prefix) {
  if (setting.rfind(prefix, 0) != 0) return 0;
  const int64_t k = std::atoll(setting.c_str() + prefix.size());
  if (k < 1) Fail("measure_reader: --settings: " + setting);
  return k;
}

AttentionChoice ChoiceOf(const std::string& setting) {
  AttentionChoice choice;
  if (setting == "dense") {
    choice.exact = true;
  } else if (const int64_t units = KOf(setting, "ffn"); units > 0) {
    choice.ffn_top_k = units;
  } else if (const int64_t keys = KOf(setting, "attention"); keys > 0) {
    choice.top_k = keys;
    choice.tail = AttentionPolicy::Tail::kNone;
  } else {
    Fail("measure_reader: --settings: " + setting);
  }
  return choice;
}

int Main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  std::ifstream file(flags.data);
  if (!file) Fail("measure_reader: cannot read --data=" + flags.data);
  std::vector<json> rows;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) rows.push_back(json::parse(line));
    if (flags.limit > 0 && rows.size() == flags.limit) break;
  }
  const auto model = LoadModel(
      {.name = "model", .path = flags.model, .numerics = flags.numerics, .threads = flags.threads});
  if (!model.ok()) Fail(model.status().ToString());
  ServerMetrics metrics({"model"});
  const auto engine = Engine::Create({}, {*model}, &Clock::Real(), &metrics);
  std::stringstream settings(flags.settings);
  for (std::string setting; std::getline(settings, setting, ',');) {
    for (const json& row : rows) {
      const Answer answer = AskAndWait(engine.get(), {.inline_text = row.at("context"),
                                                      .question = row.at("question"),
                                                      .attention = ChoiceOf(setting),
                                                      .max_new_tokens = flags.max_new_tokens});
      std::cout << json{{"setting", setting},
                        {"id", row.at("id")},
                        {"reply", answer.text},
                        {"kept_mass", answer.exactness.kept_mass_mean},
                        {"evidence", answer.evidence.empty() ? "" : answer.evidence[0].text}}
                       .dump()
                << "\n";
    }
  }
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
