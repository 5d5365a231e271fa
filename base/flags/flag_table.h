// The command line of a program as a table of flags, from which parsing, checks and --help derive.
//
//   struct Options { std::string model; int threads = 2; };
//   Options options;
//   flags::Table table({.name = "bench_rows", .introduction = "Times the rows of a model."});
//   table.Add({{"model", flags::Required(flags::Text(&options.model, "FILE")), "the model file"},
//              {"threads", flags::Number(&options.threads, 1, 1024), "threads per model step"}});
//   flags::ParseOrExit(table, argc, argv);
//
// Values are written --name=value or --name value. Every table has --help and -h. Setters run in
// the order of the command line.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/flags/flag_value.h"

namespace lectern::flags {

struct Flag {
  std::string name;  // without the dashes
  Value value;
  std::string help;           // one line; for people
  std::string unset = "";     // what --help shows in place of a default that is empty or 0
  std::string variable = "";  // environment variable that is read if the flag is not given
};

// A subcommand, named by the first word of the command line.
struct Command {
  std::string name;
  std::string words;       // the words that follow, for --help: "DOCUMENT QUESTION"
  std::string summary;     // one line
  std::string notes = "";  // paragraphs for the command's own --help
};

struct Program {
  std::string name;
  std::string introduction;            // begins the text of --help
  std::string closing = "";            // ends it
  std::vector<Command> commands = {};  // empty: the program takes flags only
  std::string version = "";            // empty: there is no --version
  bool refuses_repetition = false;     // else the last of several values of a flag counts
};

// The parts of a command line other than its flags.
struct Arguments {
  bool help = false;
  bool version = false;
  std::string command;
  std::vector<std::string> words;  // those that follow the command
};

// The value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

class Table {
 public:
  explicit Table(Program program);

  // Adds flags of the whole program, or of the commands named.
  void Add(std::vector<Flag> flags, std::vector<std::string> commands = {});

  // Sets the variables of all flags. `arguments` is argv without the program's name; "--" ends the
  // flags of a program with commands. Empty environment variables count as not set.
  //
  // INVALID_ARGUMENT in one line that names the flag, the value given and what is allowed. With
  // --help or --version on the command line, required flags, the command and the environment are
  // not checked.
  absl::StatusOr<Arguments> Parse(const std::vector<std::string>& arguments,
                                  const Environment& environment = nullptr) const;

  // The text of --help: for one command, or without one the general text. Each flag takes two
  // lines, "  --name=VALUE" and "      help [default]".
  std::string Help(std::string_view command = "") const;

  const Program& program() const { return program_; }

 private:
  struct Row {
    Flag flag;
    std::vector<std::string> commands;  // empty: all
    bool BelongsTo(std::string_view command) const;
  };

  const Row* Find(std::string_view name) const;
  const Command* FindCommand(std::string_view name) const;
  absl::StatusOr<const Row*> ReadFlag(const std::vector<std::string>& arguments, size_t& i) const;
  absl::Status CheckCommand(const Arguments& parsed, const std::vector<const Row*>& given) const;
  absl::Status ReadEnvironment(const Environment& environment,
                               const std::vector<const Row*>& given) const;
  void AppendFlags(std::string_view command, std::string& text) const;

  const Program program_;
  std::vector<Row> rows_;
  std::vector<Row> own_rows_;  // --version and --help, which --help lists last
};

// Parse() for a program that takes flags only: prints the help text and exits with 0, or prints the
// error to stderr and exits with 2.
void ParseOrExit(const Table& table, int argc, char** argv);
// Ends the program with exit status 2 after printing "PROGRAM: message" to stderr.
[[noreturn]] void ExitWithUsageError(const Table& table, std::string_view message);

}  // namespace lectern::flags
