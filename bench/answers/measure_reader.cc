// measure_reader: asks a model questions about passages and prints the replies. --help describes
// the settings and flags.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
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
    R"(measure_reader: asks a model questions about passages, under one setting after another, and
prints the replies, one JSON object per line. bench/unifiedqa makes a table of them.

Settings:
  dense       dense attention, all feed-forward units
  ffnK        K units in every feed-forward layer, ranked by the paper's signed rule where the model
              offers it
  attentionK  K keys in every layer of every kind of attention; the other keys are dropped
)";

struct Options {
  ModelLoadOptions model{.name = "model"};
  std::string data;
  std::string settings = "dense";
  uint64_t limit = 0;
  uint32_t max_new_tokens = 48;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  flags::Table table({.name = "measure_reader", .introduction = kIntroduction});
  table.Add({
      {"model", flags::Required(flags::Text(&options.model.path, "FOLDER")), "the model"},
      {"data", flags::Required(flags::Text(&options.data, "FILE")),
       "lines of JSON: {\"id\", \"context\", \"question\", ...}"},
      {"settings", flags::Text(&options.settings, "SETTING,SETTING,..."), "settings to compare"},
      {"limit", flags::Number(&options.limit, 0, UINT64_MAX), "use the first N lines; 0: all"},
      {"threads", flags::Number(&options.model.threads, 1, 1024), "threads per model step"},
      {"numerics", flags::Choice(&options.model.numerics, NumericsWords()),
       "number format of the weights"},
      {"max_new_tokens", flags::Number(&options.max_new_tokens, 1, 1 << 20),
       "longest answer, in tokens"},
  });
  flags::ParseOrExit(table, argc, argv);
  return options;
}

// The number after `prefix`, or 0 if the setting has another prefix.
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
    choice.overrides.Set(&AttentionPolicy::ffn_top_k, units);
  } else if (const int64_t keys = KOf(setting, "attention"); keys > 0) {
    choice.overrides.Set(&AttentionPolicy::top_k, keys)
        .Set(&AttentionPolicy::tail, AttentionPolicy::Tail::kNone);
  } else {
    Fail("measure_reader: --settings: " + setting);
  }
  return choice;
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  std::ifstream file(options.data);
  if (!file) Fail("measure_reader: cannot read --data=" + options.data);
  std::vector<json> rows;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) rows.push_back(json::parse(line));
    if (options.limit > 0 && rows.size() == options.limit) break;
  }
  const auto model = LoadModel(options.model);
  if (!model.ok()) Fail(model.status().ToString());
  ServerMetrics metrics({"model"});
  const auto engine = Engine::Create({}, {*model}, &Clock::Real(), &metrics);
  std::stringstream settings(options.settings);
  for (std::string setting; std::getline(settings, setting, ',');) {
    for (const json& row : rows) {
      const Answer answer = AskAndWait(engine.get(), {.inline_text = row.at("context"),
                                                      .question = row.at("question"),
                                                      .attention = ChoiceOf(setting),
                                                      .max_new_tokens = options.max_new_tokens});
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
