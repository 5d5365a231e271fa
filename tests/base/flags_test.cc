// Tables of flags: kinds of values, spellings, errors, commands, environment, --help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/flags/flag_table.h"

namespace lectern::flags {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

enum class Colour { kRed, kBlue };

struct Options {
  std::string model;
  bool json = false;
  bool colours = true;
  int threads = 0;
  uint64_t seed = 1;
  uint64_t memory = uint64_t{3} << 30;
  uint64_t tokens = 1 << 20;
  absl::Duration wait = absl::Seconds(90);
  absl::Duration timeout = absl::InfiniteDuration();
  double share = 0.5;
  std::vector<int64_t> layers = {0, 64};
  Colour colour = Colour::kBlue;
  std::string kinds;
  std::vector<std::string> stops;
};

Table TableOf(Options& o, Program program = {.name = "test"}) {
  Table table(std::move(program));
  table.Add({{"model", Text(&o.model, "FILE"), "the model"},
             {"json", Switch(&o.json), "print JSON"},
             {"colours", Boolean(&o.colours), "use colours"},
             {"threads", Number(&o.threads, 1, 16), "threads", "one per CPU"},
             {"seed", Number(&o.seed, 0, UINT64_MAX), "seed"},
             {"memory", Bytes(&o.memory, 1024), "memory"},
             {"tokens", Count(&o.tokens), "tokens"},
             {"wait", Duration(&o.wait), "wait"},
             {"timeout", Seconds(&o.timeout), "timeout"},
             {"share", Real(&o.share, 0, 1), "share"},
             {"layers", Integers(&o.layers, 0, 100), "layers"},
             {"colour", Choice<Colour>(&o.colour, {{"red", Colour::kRed}, {"blue", Colour::kBlue}}),
              "colour"},
             {"kinds", AnyText(&o.kinds, "LIST"), "kinds"},
             {"stop",
              Repeatable({.placeholder = "TEXT",
                          .initial = "",
                          .set =
                              [&o](const std::string& text) {
                                o.stops.push_back(text);
                                return std::string();
                              }}),
              "stop"}});
  return table;
}

std::string Problem(const std::vector<std::string>& arguments) {
  Options options;
  const auto parsed = TableOf(options).Parse(arguments);
  EXPECT_FALSE(parsed.ok()) << testing::PrintToString(arguments);
  return std::string(parsed.status().message());
}

TEST(FlagsTest, EveryKindReadsItsSpellings) {
  Options o;
  const auto parsed = TableOf(o).Parse(
      {"--model", "a=b", "--json", "--colours=false", "--threads=3", "--seed=18446744073709551615",
       "--memory=2MiB", "--tokens=64k", "--wait=500ms", "--timeout=2.5", "--share", "0.25",
       "--layers=1,,2", "--colour=red", "--kinds=", "--stop=x", "--stop", "--y"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(o.model, "a=b");
  EXPECT_TRUE(o.json);
  EXPECT_FALSE(o.colours);
  EXPECT_EQ(o.threads, 3);
  EXPECT_EQ(o.seed, UINT64_MAX);
  EXPECT_EQ(o.memory, uint64_t{2} << 20);
  EXPECT_EQ(o.tokens, 64000u);
  EXPECT_EQ(o.wait, absl::Milliseconds(500));
  EXPECT_EQ(o.timeout, absl::Milliseconds(2500));
  EXPECT_EQ(o.share, 0.25);
  EXPECT_THAT(o.layers, ElementsAre(1, 2));
  EXPECT_EQ(o.colour, Colour::kRed);
  EXPECT_THAT(o.stops, ElementsAre("x", "--y"));
}

TEST(FlagsTest, QuantitiesHaveUnits) {
  const std::vector<std::pair<std::string, uint64_t>> quantities = {{"1", 1},
                                                                    {"7k", 7000},
                                                                    {"7Ki", 7 << 10},
                                                                    {"7KiB", 7 << 10},
                                                                    {"1M", 1000000},
                                                                    {"1Mi", 1 << 20},
                                                                    {"1MiB", 1 << 20},
                                                                    {"2G", 2000000000},
                                                                    {"1Gi", 1 << 30},
                                                                    {"1GiB", 1 << 30},
                                                                    {"70368744177664", 1ull << 46}};
  for (const auto& [text, number] : quantities) {
    Options o;
    EXPECT_TRUE(TableOf(o).Parse({"--tokens=" + text}).ok()) << text;
    EXPECT_EQ(o.tokens, number) << text;
  }
  for (const char* text : {"", "0", "-1", "1e3", "k", "1kk", "99999999999GiB", "0x10"}) {
    EXPECT_THAT(Problem({std::string("--tokens=") + text}), HasSubstr("1 to 70368744177664"));
  }
}

TEST(FlagsTest, DurationsAreBounded) {
  Options o;
  EXPECT_TRUE(TableOf(o).Parse({"--wait=0", "--timeout=1m"}).ok());
  EXPECT_EQ(o.wait, absl::ZeroDuration());
  EXPECT_EQ(o.timeout, absl::Minutes(1));
  for (const char* text : {"-1s", "5", "9000h", "inf"}) {
    EXPECT_THAT(Problem({std::string("--wait=") + text}), HasSubstr("from 0 to 8760h"));
  }
  for (const char* text : {"0", "-1", "nan", "inf", "1e10", "soon"}) {
    EXPECT_THAT(Problem({std::string("--timeout=") + text}), HasSubstr("seconds above 0"));
  }
}

TEST(FlagsTest, ErrorsNameFlagValueAndRange) {
  EXPECT_EQ(Problem({"--threads=17"}), "--threads=17: must be a whole number from 1 to 16");
  EXPECT_EQ(Problem({"--threads=1e1"}), "--threads=1e1: must be a whole number from 1 to 16");
  EXPECT_EQ(Problem({"--seed=18446744073709551616"}),
            "--seed=18446744073709551616: must be a whole number from 0 to 18446744073709551615");
  EXPECT_EQ(Problem({"--share=1.5"}), "--share=1.5: must be a number from 0 to 1");
  EXPECT_EQ(Problem({"--share=nan"}), "--share=nan: must be a number from 0 to 1");
  EXPECT_EQ(Problem({"--colour=green"}), "--colour=green: must be one of red, blue");
  EXPECT_EQ(Problem({"--colours=1"}), "--colours=1: must be one of true, false");
  EXPECT_THAT(Problem({"--layers=1,x"}), HasSubstr("from 0 to 100, separated by commas"));
  EXPECT_EQ(Problem({"--model="}), "--model=: must not be empty");
  EXPECT_EQ(Problem({"--json=yes"}), "--json: takes no value");
  EXPECT_EQ(Problem({"--seed"}), "--seed: needs a value, N");
  EXPECT_THAT(Problem({"--loud"}), HasSubstr("--loud: there is no such flag"));
  EXPECT_THAT(Problem({"-json"}), HasSubstr("-json: there is no such flag"));
  EXPECT_THAT(Problem({"word"}), HasSubstr("word: flags start with --"));
  EXPECT_THAT(Problem({"--", "word"}), HasSubstr("--: there is no such flag"));
}

TEST(FlagsTest, RefusedValuesLeaveTheVariable) {
  Options o;
  EXPECT_FALSE(TableOf(o).Parse({"--layers=5,1000"}).ok());
  EXPECT_THAT(o.layers, ElementsAre(0, 64));
}

TEST(FlagsTest, RepetitionIsRefusedWhereTheProgramSaysSo) {
  Options o;
  EXPECT_TRUE(TableOf(o).Parse({"--threads=1", "--threads=2"}).ok());
  EXPECT_EQ(o.threads, 2);
  const Table strict = TableOf(o, {.name = "test", .refuses_repetition = true});
  EXPECT_EQ(strict.Parse({"--threads=1", "--threads=2"}).status().message(),
            "--threads: is given twice");
  EXPECT_TRUE(strict.Parse({"--stop=1", "--stop=2"}).ok());
}

TEST(FlagsTest, RequiredFlagsAreNotNeededForHelpAndVersion) {
  Options o;
  Table table({.name = "test", .version = "1.2"});
  table.Add({{"model", Required(Text(&o.model, "FILE")), "the model"}});
  EXPECT_EQ(table.Parse({}).status().message(), "--model: is required, as --model=FILE");
  EXPECT_TRUE(table.Parse({"--help"})->help);
  EXPECT_TRUE(table.Parse({"-h"})->help);
  EXPECT_TRUE(table.Parse({"--version"})->version);
  EXPECT_FALSE(table.Parse({"--help", "--loud"}).ok());
  EXPECT_THAT(table.Help(), HasSubstr("  --model=FILE\n      the model [required]\n"));
  EXPECT_THAT(TableOf(o).Help(), Not(HasSubstr("--version")));
}

TEST(FlagsTest, HelpPrintsTheDefaultsOfTheStruct) {
  Options o;
  const std::string help = TableOf(o, {.name = "test", .introduction = "First.\n"}).Help();
  EXPECT_THAT(help, testing::StartsWith("First.\n"));
  for (const char* row :
       {"  --model=FILE\n      the model\n", "  --json\n      print JSON\n",
        "  --colours=true|false\n      use colours [true]\n",
        "  --threads=N\n      threads [one per CPU]\n", "  --seed=N\n      seed [1]\n",
        "  --memory=BYTES\n      memory [3GiB]\n", "  --tokens=N\n      tokens [1Mi]\n",
        "  --wait=DURATION\n      wait [1m30s]\n", "  --timeout=SECONDS\n      timeout\n",
        "  --share=X\n      share [0.5]\n", "  --layers=N,N,...\n      layers [0,64]\n",
        "  --colour=red|blue\n      colour [blue]\n", "  --help\n      print this and exit\n"}) {
    EXPECT_THAT(help, HasSubstr(row));
  }
  o.threads = 8;
  EXPECT_THAT(TableOf(o).Help(), HasSubstr("threads [8]\n"));
}

// A program with two commands.
class CommandsTest : public testing::Test {
 protected:
  CommandsTest() {
    table_.Add({{"count", Number(&count_, 1, 9), "how often"}}, {"ring"});
    table_.Add({{"server", Text(&server_, "HOST"), "the server", "", "TEST_SERVER"}});
  }
  absl::StatusOr<Arguments> Parse(const std::vector<std::string>& arguments) {
    return table_.Parse(arguments, [this](const char* name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? nullptr : found->second.c_str();
    });
  }
  std::string Problem(const std::vector<std::string>& arguments) {
    return std::string(Parse(arguments).status().message());
  }

  int count_ = 1;
  std::string server_ = "here";
  std::map<std::string, std::string> environment_;
  Table table_{{.name = "bell",
                .introduction = "Rings.\n",
                .closing = "\nThe end.\n",
                .commands = {{"ring", "WHO", "ring it", "\nLoud.\n"}, {"stop", "", "stop it"}}}};
};

TEST_F(CommandsTest, FlagsAndWordsMixUntilTwoDashes) {
  const auto parsed = Parse({"--server=x", "ring", "--count", "3", "a", "-", "--", "--b"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->command, "ring");
  EXPECT_THAT(parsed->words, ElementsAre("a", "-", "--b"));
  EXPECT_EQ(count_, 3);
  EXPECT_EQ(server_, "x");
}

TEST_F(CommandsTest, FlagsBelongToCommands) {
  EXPECT_EQ(Problem({"stop", "--count=2"}), "--count: does not belong to stop");
  EXPECT_EQ(Problem({"sing"}), "unknown command 'sing'");
  EXPECT_EQ(Problem({"--help", "sing"}), "unknown command 'sing'");
  EXPECT_EQ(Problem({}), "no command was given");
}

TEST_F(CommandsTest, VariablesCountUnlessTheFlagIsGiven) {
  environment_["TEST_SERVER"] = "env";
  ASSERT_TRUE(Parse({"stop", "--server=flag"}).ok());
  EXPECT_EQ(server_, "flag");
  ASSERT_TRUE(Parse({"stop"}).ok());
  EXPECT_EQ(server_, "env");
  server_ = "here";
  environment_["TEST_SERVER"] = "";
  ASSERT_TRUE(Parse({"stop"}).ok());
  EXPECT_EQ(server_, "here");
}

TEST_F(CommandsTest, WrongVariablesAreNamed) {
  table_.Add({{"level", Number(&count_, 1, 9), "level", "", "TEST_LEVEL"}});
  environment_["TEST_LEVEL"] = "ten";
  EXPECT_EQ(Problem({"stop"}), "$TEST_LEVEL=ten: must be a whole number from 1 to 9");
}

TEST_F(CommandsTest, HelpOfTheProgramAndOfACommand) {
  EXPECT_TRUE(Parse({"--help"})->help);
  EXPECT_EQ(Parse({"ring", "--help"})->command, "ring");
  EXPECT_EQ(table_.Help(),
            "Rings.\n"
            "\nCommands:\n"
            "  ring WHO               ring it\n"
            "  stop                   stop it\n"
            "\nFlags (default in brackets):\n"
            "  --server=HOST\n      the server [here or $TEST_SERVER]\n"
            "  --help\n      print this and exit; after a command, print its own help\n"
            "\n`bell COMMAND --help` lists the command's own flags.\n"
            "\nThe end.\n");
  const std::string ring = table_.Help("ring");
  EXPECT_THAT(ring, testing::StartsWith("bell ring WHO  -  ring it\n\nLoud.\n\nFlags"));
  EXPECT_THAT(ring, HasSubstr("  --count=N\n      how often [1]\n"));
  EXPECT_THAT(ring, HasSubstr("--server"));
  EXPECT_THAT(table_.Help("stop"), Not(HasSubstr("--count")));
}

TEST(ParseOrExitTest, WrongUsageEndsWithStatus2AndHelpWith0) {
  Options o;
  const Table table = TableOf(o);
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "program");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    ParseOrExit(table, static_cast<int>(argv.size()), argv.data());
  };
  EXPECT_EXIT(run({"--threads=17"}), testing::ExitedWithCode(2),
              "test: --threads=17: must be a whole number from 1 to 16\n");
  EXPECT_EXIT(run({"--help"}), testing::ExitedWithCode(0), "");
  run({"--threads=4"});
  EXPECT_EQ(o.threads, 4);
}

}  // namespace
}  // namespace lectern::flags
