#include "base/flags/flag_table.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace lectern::flags {
namespace {

constexpr int kExitUsage = 2;

absl::Status Wrong(const std::string& message) { return absl::InvalidArgumentError(message); }

std::string DefaultText(const Flag& flag) {
  const std::string& initial = flag.value.initial;
  const bool unset = initial.empty() || initial == "0";
  std::string text = flag.value.required ? "required" : initial;
  if (unset && !flag.unset.empty()) text = flag.unset;
  if (!flag.variable.empty()) {
    absl::StrAppend(&text, text.empty() ? "" : " or ", "$", flag.variable);
  }
  return text;
}

}  // namespace

bool Table::Row::BelongsTo(std::string_view command) const {
  return commands.empty() || std::find(commands.begin(), commands.end(), command) != commands.end();
}

Table::Table(Program program) : program_(std::move(program)) {
  if (!program_.version.empty()) {
    own_rows_.push_back({{"version", SwitchTo([] {}), "print the version and exit"}, {}});
  }
  const char* const help = program_.commands.empty()
                               ? "print this and exit"
                               : "print this and exit; after a command, print its own help";
  own_rows_.push_back({{"help", SwitchTo([] {}), help}, {}});
}

void Table::Add(std::vector<Flag> flags, std::vector<std::string> commands) {
  for (Flag& flag : flags) rows_.push_back({std::move(flag), commands});
}

const Table::Row* Table::Find(std::string_view name) const {
  for (const std::vector<Row>* rows : {&rows_, &own_rows_}) {
    for (const Row& row : *rows) {
      if (row.flag.name == name) return &row;
    }
  }
  return nullptr;
}

const Command* Table::FindCommand(std::string_view name) const {
  const auto found = std::find_if(program_.commands.begin(), program_.commands.end(),
                                  [&](const Command& command) { return command.name == name; });
  return found == program_.commands.end() ? nullptr : &*found;
}

// Reads the flag at arguments[i], and its value from arguments[i + 1] if that is where it is; moves
// i to the last argument used.
absl::StatusOr<const Table::Row*> Table::ReadFlag(const std::vector<std::string>& arguments,
                                                  size_t& i) const {
  const std::string argument = arguments[i] == "-h" ? "--help" : arguments[i];
  const size_t equals = argument.find('=');
  const std::string shown = argument.substr(0, equals);
  const Row* const row = absl::StartsWith(shown, "--") ? Find(shown.substr(2)) : nullptr;
  if (row == nullptr) {
    return Wrong(absl::StrCat(shown, ": there is no such flag; --help lists all of them"));
  }
  const Value& kind = row->flag.value;
  std::string value;
  if (kind.placeholder.empty()) {
    if (equals != std::string::npos) return Wrong(absl::StrCat(shown, ": takes no value"));
  } else if (equals != std::string::npos) {
    value = argument.substr(equals + 1);
  } else if (++i < arguments.size()) {
    value = arguments[i];
  } else {
    return Wrong(absl::StrCat(shown, ": needs a value, ", kind.placeholder));
  }
  if (const std::string allowed = kind.set(value); !allowed.empty()) {
    return Wrong(absl::StrCat(shown, "=", value, ": ", allowed));
  }
  return row;
}

absl::Status Table::CheckCommand(const Arguments& parsed,
                                 const std::vector<const Row*>& given) const {
  if (parsed.command.empty()) return Wrong("no command was given");
  if (FindCommand(parsed.command) == nullptr) {
    return Wrong(absl::StrCat("unknown command '", parsed.command, "'"));
  }
  for (const Row* row : given) {
    if (row->BelongsTo(parsed.command)) continue;
    return Wrong(absl::StrCat("--", row->flag.name, ": does not belong to ", parsed.command));
  }
  return absl::OkStatus();
}

absl::Status Table::ReadEnvironment(const Environment& environment,
                                    const std::vector<const Row*>& given) const {
  for (const Row& row : rows_) {
    if (row.flag.variable.empty() || std::find(given.begin(), given.end(), &row) != given.end()) {
      continue;
    }
    const char* const value = environment(row.flag.variable.c_str());
    if (value == nullptr || *value == '\0') continue;
    if (const std::string allowed = row.flag.value.set(value); !allowed.empty()) {
      return Wrong(absl::StrCat("$", row.flag.variable, "=", value, ": ", allowed));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Arguments> Table::Parse(const std::vector<std::string>& arguments,
                                       const Environment& environment) const {
  Arguments parsed;
  std::vector<const Row*> given;
  const bool has_commands = !program_.commands.empty();
  bool flags_ended = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (has_commands && !flags_ended && argument == "--") {
      flags_ended = true;
    } else if (!flags_ended && argument.size() > 1 && argument[0] == '-') {
      LECTERN_ASSIGN_OR_RETURN(const Row* const row, ReadFlag(arguments, i));
      const bool again = std::find(given.begin(), given.end(), row) != given.end();
      if (again && program_.refuses_repetition && !row->flag.value.repeatable) {
        return Wrong(absl::StrCat("--", row->flag.name, ": is given twice"));
      }
      given.push_back(row);
      parsed.help |= row->flag.name == "help";
      parsed.version |= row->flag.name == "version";
    } else if (!has_commands) {
      return Wrong(absl::StrCat(argument, ": flags start with --; --help lists all of them"));
    } else if (parsed.command.empty()) {
      parsed.command = argument;
    } else {
      parsed.words.push_back(argument);
    }
  }
  const bool no_command = parsed.command.empty() || FindCommand(parsed.command) == nullptr;
  if (parsed.version || (parsed.help && (parsed.command.empty() || !no_command))) return parsed;
  if (has_commands) LECTERN_RETURN_IF_ERROR(CheckCommand(parsed, given));
  if (environment != nullptr) LECTERN_RETURN_IF_ERROR(ReadEnvironment(environment, given));
  for (const Row& row : rows_) {
    if (!row.flag.value.required) continue;
    if (std::find(given.begin(), given.end(), &row) != given.end()) continue;
    return Wrong(absl::StrCat("--", row.flag.name, ": is required, as --", row.flag.name, "=",
                              row.flag.value.placeholder));
  }
  return parsed;
}

void Table::AppendFlags(std::string_view command, std::string& text) const {
  absl::StrAppend(&text, "\nFlags (default in brackets):\n");
  for (const std::vector<Row>* rows : {&rows_, &own_rows_}) {
    for (const Row& row : *rows) {
      if (command.empty() ? !row.commands.empty() : !row.BelongsTo(command)) continue;
      const Flag& flag = row.flag;
      absl::StrAppend(&text, "  --", flag.name, flag.value.placeholder.empty() ? "" : "=",
                      flag.value.placeholder, "\n      ", flag.help);
      const std::string initial = DefaultText(flag);
      if (!initial.empty()) absl::StrAppend(&text, " [", initial, "]");
      absl::StrAppend(&text, "\n");
    }
  }
}

std::string Table::Help(std::string_view command) const {
  std::string text;
  if (const Command* const found = FindCommand(command); found != nullptr) {
    absl::StrAppend(&text, program_.name, " ", found->name, found->words.empty() ? "" : " ",
                    found->words, "  -  ", found->summary, "\n", found->notes);
  } else {
    absl::StrAppend(&text, program_.introduction);
    if (!program_.commands.empty()) absl::StrAppend(&text, "\nCommands:\n");
    for (const Command& each : program_.commands) {
      const std::string left = absl::StrCat(each.name, each.words.empty() ? "" : " ", each.words);
      absl::StrAppendFormat(&text, "  %-22s %s\n", left, each.summary);
    }
  }
  AppendFlags(command, text);
  if (command.empty() && !program_.commands.empty()) {
    absl::StrAppend(&text, "\n`", program_.name,
                    " COMMAND --help` lists the command's own flags.\n");
  }
  return text + program_.closing;
}

void ParseOrExit(const Table& table, int argc, char** argv) {
  const auto parsed = table.Parse(std::vector<std::string>(argv + 1, argv + argc),
                                  [](const char* name) { return std::getenv(name); });
  if (!parsed.ok()) {
    const absl::string_view message = parsed.status().message();
    ExitWithUsageError(table, {message.data(), message.size()});
  }
  if (!parsed->help && !parsed->version) return;
  const std::string text =
      parsed->help ? table.Help()
                   : absl::StrCat(table.program().name, " ", table.program().version, "\n");
  std::fputs(text.c_str(), stdout);
  std::exit(0);
}

void ExitWithUsageError(const Table& table, std::string_view message) {
  std::fprintf(stderr, "%s: %s\n", table.program().name.c_str(), std::string(message).c_str());
  std::exit(kExitUsage);
}

}  // namespace lectern::flags
