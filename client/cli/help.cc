#include "client/cli/help.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/options.h"

namespace lectern {
namespace {

constexpr char kIntroduction[] =
    R"(lectern asks questions about long documents that a Lectern server has read.

Usage: lectern COMMAND [WORDS] [OPTIONS]

Start here:
  lectern upload report.txt                     send a document; prints its id
  lectern ask doc-0f3a... "Who called first?"   ask about it, as often as you like
  lectern ask --file=report.txt "Who called?"   both in one
)";

constexpr char kEnd[] =
    R"(
Exit status: 0 done; 1 the server refused or failed; 2 wrong usage, or a file that cannot be
read or written; 3 no connection; 130 interrupted. Errors go to stderr.
)";

std::string OptionLines(std::string_view command) {
  std::string text = "\nOptions:\n";
  for (const OptionSpec& spec : OptionSpecs()) {
    if (command.empty() ? !spec.commands.empty() : !BelongsTo(spec, command)) continue;
    const std::string left = absl::StrCat("--", std::string(spec.name),
                                          spec.value.empty() ? "" : "=", std::string(spec.value));
    absl::StrAppendFormat(&text, "  %-22s %s\n", left, std::string(spec.help));
  }
  return text;
}

std::string_view Notes(std::string_view command) {
  if (command == "upload") {
    return R"(
The text must be UTF-8; `-` reads standard input. The same text has the same id and is read only
once. Attention options choose the policy that it is read under first.
)";
  }
  if (command == "ask") {
    return R"(
The answer appears as it is generated; below it stand the sentences that the question attended to,
with their place in the document, and one line of timings. With --file=FILE only the QUESTION is
given; --questions takes its place. "Kept mass" is the share of the dense softmax that the kept keys
hold: 1 is exact. --report=FILE.html writes the same as a page for a browser, which loads nothing and
runs no script; with --file it holds the document, too, otherwise the sentences of evidence alone.
)";
  }
  return "";
}

}  // namespace

std::string HelpText(std::string_view command) {
  if (command.empty()) {
    std::string text = absl::StrCat(kIntroduction, "\nCommands:\n");
    for (const CommandSpec& spec : CommandSpecs()) {
      const std::string left = absl::StrCat(std::string(spec.name), spec.words.empty() ? "" : " ",
                                            std::string(spec.words));
      absl::StrAppendFormat(&text, "  %-22s %s\n", left, std::string(spec.summary));
    }
    return absl::StrCat(text, OptionLines(""), "\n`lectern COMMAND --help` tells the rest.\n",
                        kEnd);
  }
  for (const CommandSpec& spec : CommandSpecs()) {
    if (spec.name != command) continue;
    return absl::StrCat("lectern ", std::string(spec.name), spec.words.empty() ? "" : " ",
                        std::string(spec.words), "  -  ", std::string(spec.summary), "\n",
                        std::string(Notes(command)), OptionLines(command), kEnd);
  }
  return "";
}

}  // namespace lectern
