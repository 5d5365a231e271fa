#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

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

TEST(CliOptionsTest, OptionsMayAppearAnywhere) {
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

// Names the unset fields of `message`, except those in `exempt`.
std::vector<std::string> UnsetFields(const google::protobuf::Message& message,
                                     const std::set<std::string>& exempt) {
  std::vector<std::string> unset;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* const field = message.GetDescriptor()->field(i);
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    const bool set = field->is_repeated() ? reflection.FieldSize(message, field) > 0
                                          : reflection.HasField(message, field);
    if (!set && !exempt.contains(field->name())) unset.push_back(field->name());
  }
  return unset;
}

TEST(CliOptionsTest, EveryFieldOfTheRequestsHasAnOption) {
  const auto options = Parse({"ask",
                              "doc",
                              "q",
                              "--title=T",
                              "--ttl=9",
                              "--pinned",
                              "--reading=whole",
                              "--priority=bulk",
                              "--exact",
                              "--top_k=1",
                              "--layer_top_k=1,2",
                              "--tail=none",
                              "--dense_up_to=3",
                              "--page_budget=4",
                              "--ffn_top_k=5",
                              "--max_error=0.5",
                              "--fall_back_to_exact",
                              "--quality=high",
                              "--max_new_tokens=6",
                              "--evidence=7",
                              "--stop=s",
                              "--temperature=1",
                              "--top_p=0.5",
                              "--seed=8",
                              "--no_answer_threshold=-2",
                              "--disable_reuse",
                              "--answer_id=a"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(UnsetFields(options->attention, {}), ElementsAre());
  EXPECT_THAT(UnsetFields(options->ask.sampling(), {}), ElementsAre());
  // The command line fills in the source, the question, the model and the attention; the client
  // library resumes answers and counts and digests uploads.
  EXPECT_THAT(UnsetFields(options->ask, {"document_id", "inline_text", "question", "model",
                                         "attention", "after_seq"}),
              ElementsAre());
  EXPECT_THAT(
      UnsetFields(options->upload, {"model", "attention", "expected_bytes", "expected_sha256"}),
      ElementsAre());
  EXPECT_THAT(options->attention.layer_top_k(), ElementsAre(1u, 2u));
  EXPECT_EQ(options->attention.dense_up_to(), 3u);
  EXPECT_EQ(options->attention.page_budget(), 4u);
  EXPECT_EQ(options->attention.ffn_top_k(), 5u);
  EXPECT_FLOAT_EQ(options->attention.max_error(), 0.5f);
  EXPECT_TRUE(options->attention.fall_back_to_exact());
  EXPECT_TRUE(options->ask.disable_reuse());
  EXPECT_EQ(options->ask.answer_id(), "a");
}

TEST(CliOptionsTest, QualityTakesTheWordsOfTheProtocol) {
  using lectern::v1::AskRequest;
  EXPECT_EQ(Parse({"ask", "d", "q", "--quality=high"})->ask.quality(), AskRequest::QUALITY_HIGH);
  EXPECT_EQ(Parse({"ask", "d", "q", "--quality=exact"})->ask.quality(), AskRequest::QUALITY_EXACT);
  EXPECT_THAT(Problem({"ask", "d", "q", "--quality=unspecified"}),
              HasSubstr("--quality=unspecified: must be one of high, exact"));
  EXPECT_THAT(Problem({"upload", "f", "--quality=high"}), HasSubstr("does not belong to upload"));
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
  EXPECT_THAT(Problem({"ask", "d", "--questions=f", "--answer_id=a"}), HasSubstr("--answer_id"));
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
  EXPECT_THAT(Problem({"status", "--tls_ca=/absent"}), HasSubstr("--tls_ca=/absent: "));
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
  EXPECT_THAT(Problem({"status", "--loud"}), HasSubstr("--loud: there is no such flag"));
  EXPECT_THAT(Problem({"status", "-json"}), HasSubstr("-json: there is no such flag"));
  EXPECT_THAT(Problem({"status", "--"}), "");
  EXPECT_THAT(Problem({"ask", "d", "q", "--top_k=many"}),
              HasSubstr("--top_k=many: must be a whole number from 0"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--tail=all"}),
              HasSubstr("--tail=all: must be one of none, mean"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--timeout=0"}),
              HasSubstr("--timeout=0: must be seconds above 0"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--timeout=nan"}),
              HasSubstr("--timeout=nan: must be seconds above 0"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--json=yes"}), HasSubstr("--json: takes no value"));
  EXPECT_THAT(Problem({"ask", "d", "q", "--seed"}), HasSubstr("--seed: needs a value"));
  EXPECT_THAT(Problem({"status", "--top_k=1"}), HasSubstr("--top_k: does not belong to status"));
  EXPECT_THAT(Problem({"ask", "doc", "Who", "called?"}), HasSubstr("quotes"));
  EXPECT_THAT(Problem({"upload"}), HasSubstr("takes 1 word, not 0"));
}

TEST(CliOptionsTest, HelpListsCommandsAndTheirOptionsWithDefaults) {
  CliOptions options;
  const flags::Table table = CliFlags(options);
  for (const flags::Command& command : table.program().commands) {
    EXPECT_THAT(HelpText(""), HasSubstr("\n  " + command.name));
    EXPECT_TRUE(Parse({command.name, "--help"})->help);
    EXPECT_THAT(HelpText(command.name), HasSubstr("lectern " + command.name));
    EXPECT_THAT(HelpText(command.name), HasSubstr("[127.0.0.1:8001 or $LECTERN_SERVER]"));
  }
  EXPECT_THAT(HelpText("ask"), HasSubstr("  --quality=high|exact\n"));
  EXPECT_THAT(HelpText("ask"), HasSubstr("retries after a replica goes away [4]\n"));
  EXPECT_THAT(HelpText("status"), testing::Not(HasSubstr("--quality")));
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
