#include "client/cli/options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/loopback.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

absl::Status Wrong(const std::string& message) { return absl::InvalidArgumentError(message); }

absl::Status CheckWords(const CliOptions& options) {
  size_t expected = 0;
  if (options.command == "upload" || options.command == "delete" || options.command == "count") {
    expected = 1;
  }
  if (options.command == "ask") {
    expected = (options.file.empty() ? 1 : 0) + (options.questions.empty() ? 1 : 0);
  }
  if (options.words.size() == expected) return absl::OkStatus();
  return Wrong(absl::StrCat(options.command, " takes ", expected,
                            expected == 1 ? " word" : " words", ", not ", options.words.size(),
                            " (put a question in quotes)"));
}

absl::Status CheckQuestions(const CliOptions& options) {
  if (options.questions.empty()) return absl::OkStatus();
  if (!options.report.empty()) return Wrong("--report: applies to one question, not --questions");
  if (!options.ask.answer_id().empty()) {
    return Wrong("--answer_id: names one answer, not those of --questions");
  }
  return absl::OkStatus();
}

absl::Status CheckSecurity(const CliOptions& options) {
  LECTERN_RETURN_IF_ERROR(CheckConnection(options.server, options.connection));
  if (options.token.empty() || !options.connection.authorities.empty() || options.insecure_token) {
    return absl::OkStatus();
  }
  for (const auto& address : absl::StrSplit(options.server, ',')) {
    if (IsLoopback({address.data(), address.size()})) continue;
    return Wrong(absl::StrCat("the token would travel to ", std::string(address),
                              " in plain text: give --tls_ca, or --insecure_token"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CliOptions> ParseCommandLine(const std::vector<std::string>& arguments,
                                            const flags::Environment& environment) {
  CliOptions options;
  LECTERN_ASSIGN_OR_RETURN(flags::Arguments parsed,
                           CliFlags(options).Parse(arguments, environment));
  options.command = std::move(parsed.command);
  options.words = std::move(parsed.words);
  options.help = parsed.help;
  if (options.help) return options;
  LECTERN_RETURN_IF_ERROR(CheckQuestions(options));
  LECTERN_RETURN_IF_ERROR(CheckWords(options));
  if (const char* const token = environment("LECTERN_TOKEN");
      options.token.empty() && token != nullptr) {
    options.token = token;
  }
  LECTERN_RETURN_IF_ERROR(CheckSecurity(options));
  return options;
}

std::string HelpText(std::string_view command) {
  CliOptions defaults;
  return CliFlags(defaults).Help(command);
}

}  // namespace lectern
