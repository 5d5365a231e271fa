#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "client/cli/help.h"
#include "client/cli/options.h"
#include "client/cli/printer.h"
#include "client/cli/progress.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<CliOptions> Parse(const std::vector<std::string>& arguments,
                                 const std::map<std::string, std::string>& environment = {}) {
  return ParseCommandLine(arguments, [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

std::string Problem(const std::vector<std::string>& arguments) {
  return std::string(Parse(arguments).status().message());
}

TEST(CliOptionsTest, OptionsMayStandAnywhere) {
  const auto options =
      Parse({"--server=h:1", "ask", "--top_k", "16", "doc-1", "--json", "Why?", "--tail=mean"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->command, "ask");
  EXPECT_THAT(options->words, ElementsAre("doc-1", "Why?"));
  EXPECT_EQ(options->server, "h:1");
  EXPECT_TRUE(options->json);
  EXPECT_EQ(options->attention.top_k(), 16u);
  EXPECT_EQ(options->attention.tail(), lectern::v1::AttentionPolicy::TAIL_MEAN);
}

TEST(CliOptionsTest, EveryOptionOfAskReachesTheRequest) {
  const auto options =
      Parse({"ask", "--file=f", "Why?", "--exact", "--max_new_tokens=9", "--evidence=0", "--stop=a",
             "--stop=b", "--temperature=0.5", "--top_p=0.9", "--seed=7", "--ttl=1.5", "--pinned",
             "--title=T", "--model=m", "--timeout=2.5"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->attention.exact());
  EXPECT_EQ(options->ask.max_new_tokens(), 9u);
  EXPECT_TRUE(options->ask.has_max_evidence_spans());
  EXPECT_EQ(options->ask.max_evidence_spans(), 0u);
  EXPECT_THAT(options->ask.stop(), ElementsAre("a", "b"));
  EXPECT_FLOAT_EQ(options->ask.sampling().temperature(), 0.5f);
  EXPECT_FLOAT_EQ(options->ask.sampling().top_p(), 0.9f);
  EXPECT_EQ(options->ask.sampling().seed(), 7u);
  EXPECT_EQ(options->upload.ttl().seconds(), 1);
  EXPECT_EQ(options->upload.ttl().nanos(), 500000000);
  EXPECT_TRUE(options->upload.pinned());
  EXPECT_EQ(options->upload.title(), "T");
  EXPECT_EQ(options->model, "m");
  EXPECT_EQ(options->timeout, absl::Milliseconds(2500));
}

TEST(CliOptionsTest, OptionsOfTheCallAndOfTheReading) {
  const auto options =
      Parse({"ask", "--file=f", "--questions=-", "--reading=chunks", "--priority=bulk",
             "--retries=0", "--wait_when_full", "--tenant=t", "--request_id=r"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->words.empty());
  EXPECT_EQ(options->questions, "-");
  EXPECT_EQ(options->upload.reading(), lectern::v1::READING_CHUNKS);
  EXPECT_EQ(options->ask.reading(), lectern::v1::READING_CHUNKS);
  EXPECT_EQ(options->upload.priority(), lectern::v1::PRIORITY_BULK);
  EXPECT_EQ(options->ask.priority(), lectern::v1::PRIORITY_BULK);
  EXPECT_EQ(options->retry.max_attempts, 1);
  EXPECT_TRUE(options->retry.when_full);
  EXPECT_EQ(options->tenant, "t");
  EXPECT_EQ(options->request_id, "r");
  EXPECT_FALSE(Parse({"upload", "f", "--reading=twice"}).ok());
  EXPECT_FALSE(Parse({"upload", "f", "--priority=first"}).ok());
  EXPECT_FALSE(Parse({"ask", "d", "q", "--questions=f"}).ok());
  EXPECT_THAT(Problem({"ask", "d", "--questions=f", "--report=r"}), HasSubstr("--report"));
}

TEST(CliOptionsTest, TwoDashesEndTheOptionsAndOneDashIsAWord) {
  EXPECT_THAT(Parse({"ask", "doc", "--", "--why?"})->words, ElementsAre("doc", "--why?"));
  EXPECT_THAT(Parse({"upload", "-"})->words, ElementsAre("-"));
}

TEST(CliOptionsTest, TheEnvironmentNamesTheServerUnlessAnOptionDoes) {
  EXPECT_EQ(Parse({"status"}, {{"LECTERN_SERVER", "env:1"}})->server, "env:1");
  EXPECT_EQ(Parse({"status", "--server=o:2"}, {{"LECTERN_SERVER", "env:1"}})->server, "o:2");
  EXPECT_EQ(Parse({"status"}, {{"LECTERN_SERVER", ""}})->server, "127.0.0.1:8001");
}

TEST(CliOptionsTest, SecretsComeFromFilesOrTheEnvironment) {
  const TemporaryFolder folder;
  const auto file = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder.path() + "/" + name) << text;
    return folder.path() + "/" + name;
  };
  const std::string token = file("token", " abc\n");
  EXPECT_EQ(Parse({"status", "--token_file=" + token})->token, "abc");
  EXPECT_EQ(Parse({"status"}, {{"LECTERN_TOKEN", "env"}})->token, "env");
  EXPECT_EQ(Parse({"status", "--token_file=" + token}, {{"LECTERN_TOKEN", "env"}})->token, "abc");
  const std::string ca = "--tls_ca=" + file("ca", "CA");
  const std::map<std::string, std::string> environment = {
      {"LECTERN_TLS_CA", file("other", "OTHER")},
      {"LECTERN_TLS_CERT", file("cert", "C")},
      {"LECTERN_TLS_KEY", file("key", "K")},
      {"LECTERN_TLS_SERVER_NAME", "other"}};
  EXPECT_EQ(Parse({"status"}, environment)->connection.authorities, "OTHER");
  EXPECT_EQ(Parse({"status"}, environment)->connection.certificate, "C");
  EXPECT_EQ(Parse({"status"}, environment)->connection.key, "K");
  EXPECT_EQ(Parse({"status"}, environment)->connection.server_name, "other");
  EXPECT_EQ(Parse({"status", ca}, environment)->connection.authorities, "CA");
  EXPECT_THAT(Parse({"status"}, {{"LECTERN_TLS_CA", "/absent"}}).status().message(),
              HasSubstr("LECTERN_TLS_CA"));
  const auto options = Parse({"status", ca, "--tls_cert=" + file("cert", "C"),
                              "--tls_key=" + file("key", "K"), "--tls_server_name=lectern"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->connection.authorities, "CA");
  EXPECT_EQ(options->connection.certificate, "C");
  EXPECT_EQ(options->connection.key, "K");
  EXPECT_EQ(options->connection.server_name, "lectern");
  EXPECT_THAT(Problem({"status", "--tls_ca=/absent"}), HasSubstr("bad value for --tls_ca"));
  EXPECT_THAT(Problem({"status", "--token_file=" + file("empty", "\n")}), HasSubstr("token_file"));
  EXPECT_THAT(Problem({"status", "--tls_cert=" + file("cert", "C")}), HasSubstr("its key"));
  EXPECT_THAT(Problem({"status", ca, "--server=h:1,i:1"}), HasSubstr("several addresses"));
}

TEST(CliOptionsTest, ATokenIsNotSentInPlainTextToOthers) {
  const auto problem = [](const std::vector<std::string>& arguments) {
    return std::string(Parse(arguments, {{"LECTERN_TOKEN", "secret"}}).status().message());
  };
  EXPECT_EQ(problem({"status"}), "");
  EXPECT_EQ(problem({"status", "--server=127.0.0.1:1,127.0.0.1:2"}), "");
  EXPECT_THAT(problem({"status", "--server=h:1"}), HasSubstr("travel to h:1 in plain text"));
  EXPECT_THAT(problem({"status", "--server=127.0.0.1:1,10.0.0.1:2"}), HasSubstr("10.0.0.1:2"));
  EXPECT_THAT(problem({"status", "--server=dns:///localhost:1"}), HasSubstr("plain text"));
  EXPECT_EQ(problem({"status", "--server=h:1", "--insecure_token"}), "");
}

TEST(CliOptionsTest, WrongUsageIsNamed) {
  EXPECT_THAT(Problem({}), HasSubstr("no command"));
  EXPECT_THAT(Problem({"sing"}), HasSubstr("unknown command 'sing'"));
  EXPECT_THAT(Problem({"status", "--loud"}), HasSubstr("unknown option --loud"));
  EXPECT_THAT(Problem({"status", "-json"}), HasSubstr("unknown option -json"));
  EXPECT_THAT(Problem({"status", "--"}), "");
  EXPECT_THAT(Problem({"ask", "d", "q", "--top_k=many"}), HasSubstr("bad value for --top_k"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--tail=all"}), HasSubstr("bad value for --tail"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--timeout=0"}), HasSubstr("bad value for --timeout"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--timeout=nan"}), HasSubstr("bad value for --timeout"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--json=yes"}), HasSubstr("--json takes no value"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--seed"}), HasSubstr("--seed needs a value"));
  EXPECT_THAT(Problem({"status", "--top_k=1"}), HasSubstr("--top_k does not belong to status"));
  EXPECT_THAT(Problem({"ask", "doc", "Who", "called?"}), HasSubstr("quotes"));
  EXPECT_THAT(Problem({"upload"}), HasSubstr("takes 1 word, not 0"));
}

TEST(CliOptionsTest, HelpNamesEveryCommandAndOption) {
  for (const CommandSpec& spec : CommandSpecs()) {
    const std::string name(spec.name);
    EXPECT_THAT(HelpText(""), HasSubstr("\n  " + name));
    EXPECT_TRUE(Parse({name, "--help"})->help);
    for (const OptionSpec& option : OptionSpecs()) {
      const std::string flag = "--" + std::string(option.name);
      if (BelongsTo(option, name)) {
        EXPECT_THAT(HelpText(name), HasSubstr(flag));
      }
    }
  }
}

TEST(PrinterTest, ControlCharactersNeverReachATerminal) {
  EXPECT_EQ(Printable("a\x1b[2Jb\x07\r\x7f\xc2\x9b"
                      "c\td\n\xc3\xa9"),
            "a[2Jbc\td\n\xc3\xa9");
  EXPECT_EQ(Printable("x\xff"), "x\xef\xbf\xbd");
}

TEST(PrinterTest, NumbersHaveCommas) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(1234567), "1,234,567");
}

}  // namespace
}  // namespace lectern
