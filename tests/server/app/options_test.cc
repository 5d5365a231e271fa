// The server's flags.
#include "server/app/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace lectern {
namespace {

using testing::HasSubstr;

std::string ErrorOf(std::vector<std::string> arguments) {
  arguments.push_back("--model=m=/models/m.gguf");
  const auto options = ParseOptions(arguments);
  EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(options.status().message());
}

TEST(OptionsTest, ReadsBothSpellings) {
  const auto options =
      ParseOptions({"--model", "a=/a.gguf", "--model=b=/b=c.gguf", "--threads=3", "--kv_bytes",
                    "2GiB", "--layer_top_k=0,64", "--tail=none", "--drain_timeout=90s",
                    "--listen=0.0.0.0:0", "--dense_up_to=7"});
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->models.size(), 2u);
  EXPECT_EQ(options->models[1].second, "/b=c.gguf");
  EXPECT_EQ(options->load.threads, 3);
  EXPECT_EQ(options->engine.kv_bytes, uint64_t{2} << 30);
  const AttentionPolicy& policy = options->load.default_policy;
  EXPECT_EQ(policy.layer_k, (std::vector<int64_t>{0, 64}));
  EXPECT_EQ(policy.dense_up_to, 7);
  EXPECT_EQ(policy.tail, AttentionPolicy::Tail::kNone);
  EXPECT_EQ(options->drain_timeout, absl::Seconds(90));
}

TEST(OptionsTest, EveryBadFlagIsNamedInOneLine) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"--threads=0", "--threads"},
      {"--threads=1e3", "--threads"},
      {"--kv_bytes=0", "--kv_bytes"},
      {"--kv_bytes=99999999999GiB", "--kv_bytes"},
      {"--top_k=-1", "--top_k"},
      {"--layer_top_k=1,x", "--layer_top_k"},
      {"--numerics=f16", "--numerics"},
      {"--device=gpu", "--device"},
      {"--listen=8001", "--listen"},
      {"--listen=host:70000", "--listen"},
      {"--metrics_listen=:1", "--metrics_listen"},
      {"--default_ttl=-1s", "--default_ttl"},
      {"--no_evidence_threshold=2", "--no_evidence_threshold"},
      {"--log_level=loud", "--log_level"},
      {"--model=m=/again", "--model"},
      {"--prompt_format=m=odd", "--prompt_format"},
      {"--prompt_format=chatml", "--prompt_format"},
      {"--prompt_format=x=chatml", "no --model"},
      {"--context_length=m=0", "--context_length"},
      {"--context_length=m=9999999999", "--context_length"},
      {"--context_length=x=8", "no --model"},
      {"--queue_capacity=", "--queue_capacity"},
      {"positional", "positional"},
      {"--default_max_new_tokens=5000", "--default_max_new_tokens"}};
  for (const auto& [flag, name] : bad) {
    const std::string error = ErrorOf({flag});
    EXPECT_THAT(error, HasSubstr(name)) << flag;
    EXPECT_EQ(error.find('\n'), std::string::npos) << flag;
  }
  EXPECT_THAT(ErrorOf({"--threads=1", "--threads=2"}), HasSubstr("given twice"));
  for (const char* numerics : {"--numerics=f32", "--numerics=blocks"}) {
    const std::string error = ErrorOf({"--device=cuda", numerics});
    EXPECT_THAT(error, HasSubstr("--device"));
    EXPECT_THAT(error, HasSubstr("--numerics"));
  }
  EXPECT_THAT(std::string(ParseOptions({}).status().message()), HasSubstr("--model"));
}

TEST(OptionsTest, SettingsOfOneModel) {
  const auto options =
      ParseOptions({"--model=a=/a", "--no_answer=a=-1.5", "--model=b=/b", "--no_answer=b=off",
                    "--lower_case=c=false", "--model=c=/c", "--model=d=/d", "--lower_case=d=true"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->settings.at("a").no_answer->threshold, -1.5);
  EXPECT_EQ(options->settings.at("a").lower_case, std::nullopt);
  EXPECT_EQ(options->settings.at("b").no_answer->threshold, std::nullopt);
  EXPECT_EQ(options->settings.at("c").lower_case, false);
  EXPECT_EQ(options->settings.at("d").lower_case, true);
  EXPECT_FALSE(options->settings.contains("e"));
  EXPECT_THAT(ErrorOf({"--no_answer=m"}), HasSubstr("must be NAME=THRESHOLD|off"));
  EXPECT_THAT(ErrorOf({"--no_answer=m=never"}), HasSubstr("a number from -1e6 to 1e6"));
  EXPECT_THAT(ErrorOf({"--no_answer=m=nan"}), HasSubstr("a number from -1e6 to 1e6"));
  EXPECT_THAT(ErrorOf({"--no_answer=m=1", "--no_answer=m=2"}), HasSubstr("'m' twice"));
  EXPECT_THAT(ErrorOf({"--no_answer=x=1"}), HasSubstr("--no_answer=x=...: no --model"));
  EXPECT_THAT(ErrorOf({"--lower_case=m=yes"}), HasSubstr("true and false are allowed"));
}

TEST(OptionsTest, PromptFormatsAndContextLengths) {
  const std::string file = testing::TempDir() + "/format.json";
  std::ofstream(file) << R"({"user_begin": "U:", "answer_begin": "A:"})";
  const auto options =
      ParseOptions({"--model=a=/a", "--model=b=/b", "--model=c=/c", "--prompt_format=a=gemma",
                    "--prompt_format=b=" + file, "--context_length=b=4096"});
  ASSERT_TRUE(options.ok()) << options.status();
  const ModelSettings& a = options->settings.at("a");
  EXPECT_EQ(a.prompt_format->name, "gemma");
  EXPECT_EQ(a.context_length, 0);
  const ModelSettings& b = options->settings.at("b");
  EXPECT_EQ(b.prompt_format->user_begin, "U:");
  EXPECT_EQ(b.context_length, 4096);
  EXPECT_FALSE(options->settings.contains("c"));
}

TEST(OptionsTest, AnUnknownPromptFormatListsTheKnownOnes) {
  const std::string error = ErrorOf({"--prompt_format=m=lama3"});
  EXPECT_THAT(error, HasSubstr("'lama3'"));
  for (const char* name : {"llama3", "chatml", "mistral-v7-tekken", "completion"}) {
    EXPECT_THAT(error, HasSubstr(name));
  }
  EXPECT_THAT(ErrorOf({"--prompt_format=m=gemma", "--prompt_format=m=phi3"}), HasSubstr("twice"));
}

TEST(OptionsTest, TlsFlagsNeedEachOther) {
  EXPECT_THAT(ErrorOf({"--tls_cert=c"}), HasSubstr("--tls_key"));
  EXPECT_THAT(ErrorOf({"--tls_key=k"}), HasSubstr("--tls_cert"));
  EXPECT_THAT(ErrorOf({"--tls_client_ca=a"}), HasSubstr("--tls_client_ca"));
  EXPECT_TRUE(ParseOptions({"--model=m=/m", "--tls_cert=c", "--tls_key=k", "--tls_client_ca=a",
                            "--auth_tokens=t", "--listen=0.0.0.0:1"})
                  .ok());
}

TEST(OptionsTest, TokensInPlainTextStayOnThisMachine) {
  for (const char* here : {"127.0.0.1:1", "127.9.8.7:0", "localhost:1", "[::1]:1"}) {
    EXPECT_TRUE(
        ParseOptions({"--model=m=/m", "--auth_tokens=t", std::string("--listen=") + here}).ok())
        << here;
  }
  for (const char* elsewhere :
       {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "127.0.0.1.example:1", "localhost.example:1"}) {
    const std::string listen = std::string("--listen=") + elsewhere;
    EXPECT_THAT(ErrorOf({"--auth_tokens=t", listen}), HasSubstr("--insecure_tokens")) << elsewhere;
    EXPECT_TRUE(
        ParseOptions({"--model=m=/m", "--auth_tokens=t", listen, "--insecure_tokens=true"}).ok());
    EXPECT_TRUE(ParseOptions({"--model=m=/m", listen}).ok()) << "without tokens";
  }
}

TEST(OptionsTest, LimitsHaveLimits) {
  EXPECT_THAT(ErrorOf({"--max_message_bytes=1MiB"}), HasSubstr("2097152 to 268435456"));
  EXPECT_THAT(ErrorOf({"--max_metadata_bytes=1"}), HasSubstr("8192 to 1048576"));
  EXPECT_THAT(ErrorOf({"--max_streams=0"}), HasSubstr("1 to 1048576"));
}

TEST(OptionsTest, HelpNeedsNoModel) {
  EXPECT_TRUE(ParseOptions({"--help"}).ok());
  EXPECT_THAT(HelpText(), HasSubstr("--kv_bytes=BYTES"));
}

}  // namespace
}  // namespace lectern
