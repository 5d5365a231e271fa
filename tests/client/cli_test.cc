// The commands of `lectern` against a fake server: output, requests and exit statuses.
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "tests/client/fake_document_qa.h"
#include "tests/client/scripted_document_qa.h"

namespace lectern {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::string Contents(std::FILE* file) {
  std::string text(static_cast<size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  std::fclose(file);
  return text;
}

std::string FileContents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class CliTest : public testing::Test {
 protected:
  // Runs `lectern ARGUMENTS --server=...` in this process.
  int Run(std::vector<std::string> arguments, bool terminal = false) {
    arguments.push_back("--server=" + target_);
    const auto options = ParseCommandLine(arguments, [](const char*) { return nullptr; });
    EXPECT_TRUE(options.ok()) << options.status();
    std::FILE* out = std::tmpfile();
    std::FILE* err = std::tmpfile();
    Canceller canceller;
    const int exit_status = RunCommand(*options, out, err, terminal, canceller);
    out_ = Contents(out);
    err_ = Contents(err);
    return exit_status;
  }

  std::string WriteFile(const std::string& text) {
    const std::string path = testing::TempDir() + "/cli_test_" + std::to_string(getpid()) + ".txt";
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  FakeDocumentQa fake_;
  std::string target_ = fake_.target();
  std::string out_;
  std::string err_;
};

TEST_F(CliTest, UploadPrintsTheIdAloneAndSendsTheFilesNameAsTitle) {
  const std::string path = WriteFile("The valve failed.");
  EXPECT_EQ(Run({"upload", path, "--ttl=60", "--top_k=8"}), kExitOk);
  EXPECT_EQ(out_, "doc-0123456789abcdef0123456789abcdef\n");
  EXPECT_EQ(fake_.text, "The valve failed.");
  EXPECT_EQ(fake_.metadata.title(), path.substr(path.rfind('/') + 1));
  EXPECT_EQ(fake_.metadata.ttl().seconds(), 60);
  EXPECT_EQ(fake_.metadata.attention().top_k(), 8u);
}

TEST_F(CliTest, ProgressIsABarOnATerminalAndSilentElsewhere) {
  const std::string path = WriteFile(std::string(300000, 'x'));
  EXPECT_EQ(Run({"upload", path}, /*terminal=*/true), kExitOk);
  EXPECT_THAT(err_, HasSubstr("[##########"));
  EXPECT_THAT(err_, HasSubstr("300,000 of 300,000 bytes"));
  EXPECT_THAT(err_, EndsWith("\r\x1b[K"));
  EXPECT_EQ(Run({"upload", path}), kExitOk);
  EXPECT_EQ(err_, "");
}

TEST_F(CliTest, AskStreamsTextThenEvidenceThenTimings) {
  EXPECT_EQ(Run({"ask", "doc-1", "When?", "--evidence=2"}), kExitOk);
  EXPECT_EQ(out_,
            "At 03:14[2J.\n"
            "  [1] \"At 03:14 the relief valve V-12 failed.\" bytes 48,211-48,290   attended 31 %\n"
            "  first text 34 ms · 22 tokens · 118 tok/s · kept mass 0.998 (k = 64)\n");
  EXPECT_EQ(fake_.ask.question(), "When?");
  EXPECT_EQ(fake_.ask.max_evidence_spans(), 2u);
  EXPECT_FALSE(fake_.ask.has_attention());
}

TEST_F(CliTest, NoAnswerIsSaidWithTheScores) {
  EXPECT_EQ(Run({"ask", "doc-1", "Who paid?", "--no_answer_threshold=-0.5"}), kExitOk);
  EXPECT_EQ(fake_.ask.no_answer_threshold(), -0.5f);
  EXPECT_THAT(out_, HasSubstr("  the document holds no answer: the score of \"no answer\" is 1.25 "
                              "above that of the best span\n"));
  EXPECT_THAT(out_, Not(HasSubstr("does not seem to answer")));
  EXPECT_EQ(Run({"ask", "doc-1", "Who paid?", "--json"}), kExitOk);
  EXPECT_FALSE(fake_.ask.has_no_answer_threshold());
  EXPECT_THAT(out_, HasSubstr(R"("finishReason":"FINISH_REASON_NO_ANSWER")"));
  EXPECT_THAT(out_, HasSubstr(R"("nullScoreDifference":1.25)"));
}

TEST_F(CliTest, QualityReachesTheServer) {
  EXPECT_EQ(Run({"ask", "doc-1", "When?", "--quality=high"}), kExitOk);
  EXPECT_EQ(fake_.ask.quality(), lectern::v1::AskRequest::QUALITY_HIGH);
  EXPECT_EQ(Run({"ask", "doc-1", "When?"}), kExitOk);
  EXPECT_EQ(fake_.ask.quality(), lectern::v1::AskRequest::QUALITY_UNSPECIFIED);
}

TEST_F(CliTest, AskAboutAFileUploadsItFirst) {
  EXPECT_EQ(Run({"ask", "--file=" + WriteFile("text"), "When?", "--exact"}), kExitOk);
  EXPECT_EQ(fake_.text, "text");
  EXPECT_EQ(fake_.ask.document_id(), "doc-0123456789abcdef0123456789abcdef");
  EXPECT_TRUE(fake_.metadata.attention().exact());
  EXPECT_TRUE(fake_.ask.attention().exact());
}

TEST_F(CliTest, AskAboutAFileThatTheServerHasUploadsNothing) {
  ScriptedDocumentQa server;
  target_ = server.target();
  const std::string file = "--file=" + WriteFile("text");
  EXPECT_EQ(Run({"ask", file, "When?"}), kExitOk);
  EXPECT_EQ(server.uploads, 1);
  EXPECT_EQ(Run({"ask", file, "When?"}), kExitOk);
  EXPECT_EQ(server.uploads, 1);
  EXPECT_EQ(Run({"ask", file, "When?", "--pinned"}), kExitOk);
  EXPECT_EQ(server.uploads, 2);
}

TEST_F(CliTest, QuestionsOfAFileAreAskedConcurrently) {
  ScriptedDocumentQa server;
  target_ = server.target();
  const std::string questions = "--questions=" + WriteFile("When?\n\n  bad \nWhere?\n");
  EXPECT_EQ(Run({"ask", ScriptedDocumentQa::IdOf("x"), questions}), kExitServerError);
  EXPECT_THAT(err_, HasSubstr("DOCUMENT_EVICTED"));
  Client(target_).Upload("x", {}, {}, nullptr).IgnoreError();
  EXPECT_EQ(Run({"ask", ScriptedDocumentQa::IdOf("x"), questions}), kExitServerError);
  EXPECT_EQ(server.streams, 2);
  EXPECT_THAT(out_, testing::StartsWith("When?\nAt 03:14.\n"));
  EXPECT_THAT(out_, HasSubstr("\nWhere?\nAt 03:14.\n"));
  EXPECT_THAT(err_, HasSubstr("  question: bad\n"));
}

TEST_F(CliTest, TenantAndRequestIdAreSentAndRetriesPrinted) {
  ScriptedDocumentQa server;
  target_ = server.target();
  server.before = [](int number, const auto&) {
    return number == 1 ? ErrorWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 1)
                       : grpc::Status::OK;
  };
  const std::string id = ScriptedDocumentQa::IdOf("x");
  Client(target_).Upload("x", {}, {}, nullptr).IgnoreError();
  EXPECT_EQ(Run({"ask", id, "When?", "--wait_when_full", "--tenant=me", "--request_id=r-1"}),
            kExitOk);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_EXHAUSTED, trying again in "));
  EXPECT_THAT(server.metadata, testing::Contains(testing::Pair("x-lectern-tenant", "me")));
  EXPECT_THAT(server.metadata, testing::Contains(testing::Pair("x-request-id", "r-1")));
  server.asks = 0;
  EXPECT_EQ(Run({"ask", id, "When?"}), kExitServerError);
  EXPECT_EQ(server.asks, 1);
  EXPECT_THAT(err_, HasSubstr("request_id: req-1"));
}

TEST_F(CliTest, ReportWritesAPageInAdditionToTheAnswer) {
  const std::string page = testing::TempDir() + "/report_" + std::to_string(getpid()) + ".html";
  const std::string file = "--file=" + WriteFile("The <text>.");
  EXPECT_EQ(Run({"ask", file, "When?", "--report=" + page}), kExitOk);
  EXPECT_THAT(out_, HasSubstr("At 03:14"));
  EXPECT_THAT(FileContents(page),
              testing::AllOf(HasSubstr("<h1 dir=\"auto\">When?</h1>"), HasSubstr("At 03:14."),
                             HasSubstr("The &lt;text&gt;."), HasSubstr("</html>\n")));
  EXPECT_EQ(Run({"ask", "doc-1", "Where?", "--report=" + page}), kExitOk);  // replaces the file
  EXPECT_THAT(FileContents(page), testing::AllOf(HasSubstr("Where?"), HasSubstr("--file=FILE"),
                                                 Not(HasSubstr("The &lt;text&gt;."))));
  std::remove(page.c_str());
  EXPECT_EQ(Run({"ask", "bad", "When?", "--report=" + page}), kExitServerError);
  EXPECT_FALSE(std::ifstream(page).is_open());
  fake_.ask.Clear();
  EXPECT_EQ(Run({"ask", "doc-1", "When?", "--report=/no/such/folder/page.html"}), kExitUsage);
  EXPECT_THAT(err_, HasSubstr("cannot write into /no/such/folder"));
  EXPECT_EQ(fake_.ask.question(), "");  // not even asked
}

TEST_F(CliTest, JsonIsOneEventALine) {
  EXPECT_EQ(Run({"ask", "doc-1", "When?", "--json"}), kExitOk);
  EXPECT_EQ(err_, "");
  const std::vector<std::string> lines = absl::StrSplit(out_, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 4u);
  lectern::v1::AskResponse event;
  for (const std::string& line : lines) {
    event.Clear();
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &event).ok()) << line;
  }
  EXPECT_EQ(event.answer().evidence(0).begin_byte(), 48211u);
  EXPECT_EQ(Run({"documents", "--json"}), kExitOk);
  EXPECT_EQ(out_, "{\"id\":\"doc-a\"}\n{\"id\":\"doc-b\"}\n{\"id\":\"doc-c\"}\n");
}

TEST_F(CliTest, OtherCommands) {
  EXPECT_EQ(Run({"documents"}), kExitOk);
  EXPECT_THAT(out_, HasSubstr("doc-c"));
  EXPECT_EQ(Run({"delete", "doc-a"}), kExitOk);
  EXPECT_EQ(out_, "deleted, 1,234,567 bytes freed\n");
  EXPECT_EQ(Run({"count", WriteFile("five!"), "--model=large"}), kExitOk);
  EXPECT_EQ(out_,
            "5 tokens of large: read in 3 chunks (whole up to 2,000 tokens; context length "
            "8,192)\n");
  EXPECT_EQ(Run({"models"}), kExitOk);
  EXPECT_THAT(out_, HasSubstr("  finds no answer above a score difference of 0.5\n"));
  EXPECT_THAT(out_, HasSubstr("  prompt format: chatml (recognised in FILE)\n"));
  EXPECT_THAT(out_, HasSubstr("small"));
  EXPECT_EQ(Run({"status"}), kExitOk);
  EXPECT_THAT(out_, HasSubstr("SERVING  ready"));
}

TEST_F(CliTest, StatusFailsForAProbeUnlessTheServerServes) {
  EXPECT_EQ(Run({"status", "--serving"}), kExitOk);
  fake_.state = lectern::v1::ServerStatus::STATE_DRAINING;
  EXPECT_EQ(Run({"status"}), kExitOk);
  EXPECT_EQ(Run({"status", "--serving"}), kExitServerError);
  EXPECT_THAT(err_, HasSubstr("reason: DRAINING"));
}

TEST_F(CliTest, ErrorsAreShownWithEveryDetail) {
  EXPECT_EQ(Run({"ask", "bad", "When?"}), kExitServerError);
  EXPECT_EQ(out_, "");
  EXPECT_EQ(err_,
            "lectern: INVALID_ARGUMENT: the document[31m does not fit\n"
            "  reason: DOCUMENT_TOO_LONG\n"
            "  tokens: 9000\n"
            "  field attention.top_k: 1 to 65536\n"
            "  field stop: at most 8\n"
            "  document: doc-bad\n"
            "  try again in 1.5s\n");
}

TEST_F(CliTest, ExitStatusSeparatesUsageFromConnection) {
  EXPECT_EQ(Run({"upload", "/nonexistent/file"}), kExitUsage);
  EXPECT_THAT(err_, HasSubstr("/nonexistent/file"));
  {
    FakeDocumentQa gone;
    target_ = gone.target();
  }
  EXPECT_EQ(Run({"ask", "doc-1", "When?"}), kExitNoConnection);
  EXPECT_THAT(err_, HasSubstr("cannot connect to " + target_));
}

TEST_F(CliTest, WaitsForALoadingServerAndRefusesADrainingOne) {
  fake_.loading_calls = 2;
  EXPECT_EQ(Run({"models"}), kExitOk);
  EXPECT_EQ(err_, "waiting for the server: loading models\n");
  fake_.state = lectern::v1::ServerStatus::STATE_DRAINING;
  EXPECT_EQ(Run({"models"}), kExitServerError);
  EXPECT_THAT(err_, HasSubstr("DRAINING"));
}

TEST_F(CliTest, TheDeadlineEndsAQuestion) {
  EXPECT_EQ(Run({"ask", "endless", "When?", "--timeout=0.5"}), kExitServerError);
  EXPECT_THAT(err_, HasSubstr("DEADLINE_EXCEEDED"));
}

// The real program, for tests of signals, argv and the exit status.
class ProgramTest : public CliTest {
 protected:
  pid_t Start(const std::vector<std::string>& arguments) {
    const std::string program = std::string(std::getenv("LECTERN_BIN_DIR")) + "/lectern";
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    const pid_t pid = fork();
    if (pid == 0) {
      execv(program.c_str(), argv.data());
      _exit(127);
    }
    return pid;
  }
  static int Wait(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
};

TEST_F(ProgramTest, InterruptCancelsTheCall) {
  const pid_t pid = Start({"ask", "endless", "When?", "--server=" + target_});
  while (!fake_.endless_running) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  kill(pid, SIGINT);
  EXPECT_EQ(Wait(pid), kExitInterrupted);
  while (!fake_.endless_cancelled) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST_F(ProgramTest, ExitStatusOfUsageAndHelp) {
  EXPECT_EQ(Wait(Start({"--help"})), kExitOk);
  EXPECT_EQ(Wait(Start({})), kExitUsage);
  EXPECT_EQ(Wait(Start({"status", "--server=" + target_})), kExitOk);
}

}  // namespace
}  // namespace lectern
