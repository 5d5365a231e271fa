#include "bench/serving/options.h"

#include <functional>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lectern::bench {
namespace {

using Setter = std::function<bool(LoadOptions&, const std::string&)>;

Setter Set(std::string LoadOptions::*field) {
  return [field](LoadOptions& options, const std::string& value) {
    options.*field = value;
    return !value.empty();
  };
}

Setter Set(double LoadOptions::*field) {
  return [field](LoadOptions& options, const std::string& value) {
    return absl::SimpleAtod(value, &(options.*field)) && options.*field >= 0;
  };
}

template <typename Integer>
Setter Set(Integer LoadOptions::*field) {
  return [field](LoadOptions& options, const std::string& value) {
    return absl::SimpleAtoi(value, &(options.*field));
  };
}

const std::map<std::string, Setter>& Setters() {
  static const auto& setters = *new std::map<std::string, Setter>{
      {"server", Set(&LoadOptions::server)},
      {"seconds", Set(&LoadOptions::seconds)},
      {"warmup", Set(&LoadOptions::warmup)},
      {"rate", Set(&LoadOptions::rate)},
      {"clients", Set(&LoadOptions::clients)},
      {"probe", Set(&LoadOptions::probe)},
      {"deadline", Set(&LoadOptions::deadline)},
      {"seed", Set(&LoadOptions::seed)},
      {"uploads", Set(&LoadOptions::uploads)},
      {"cancels", Set(&LoadOptions::cancels)},
      {"slow_readers", Set(&LoadOptions::slow_readers)},
      {"crashes", Set(&LoadOptions::crashes)},
      {"documents", Set(&LoadOptions::documents)},
      {"document_tokens", Set(&LoadOptions::document_tokens)},
      {"upload_tokens", Set(&LoadOptions::upload_tokens)},
      {"max_new_tokens", Set(&LoadOptions::max_new_tokens)},
      {"temperature", Set(&LoadOptions::temperature)},
      {"connections", Set(&LoadOptions::connections)},
      {"leak", Set(&LoadOptions::leak)},
      {"crash_with", Set(&LoadOptions::crash_with)},
  };
  return setters;
}

absl::Status Check(const LoadOptions& options) {
  if (options.server.empty()) return absl::InvalidArgumentError("--server=HOST:PORT is needed");
  const bool has_load = options.rate > 0 || options.clients > 0;
  if (has_load || options.leak > 0 || !options.crash_with.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("--rate=R or --clients=N is needed");
}

}  // namespace

absl::StatusOr<LoadOptions> ParseLoadOptions(const std::vector<std::string>& arguments) {
  LoadOptions options;
  for (const std::string& argument : arguments) {
    const std::vector<std::string> parts = absl::StrSplit(argument, absl::MaxSplits('=', 1));
    const auto setter =
        parts[0].rfind("--", 0) == 0 ? Setters().find(parts[0].substr(2)) : Setters().end();
    if (setter == Setters().end() || parts.size() != 2 || !setter->second(options, parts[1])) {
      return absl::InvalidArgumentError(absl::StrCat("bad option ", argument));
    }
  }
  if (const absl::Status status = Check(options); !status.ok()) return status;
  return options;
}

}  // namespace lectern::bench
