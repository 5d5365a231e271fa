// Flags and the HTTP endpoints' server.
#include "server/app/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  const auto options = ParseOptions({"--model", "a=/a.gguf", "--model=b=/b=c.gguf", "--threads=3",
                                     "--kv_bytes", "2GiB", "--layer_top_k=0,64", "--tail=none",
                                     "--drain_timeout=90s", "--listen=0.0.0.0:0"});
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->models.size(), 2u);
  EXPECT_EQ(options->models[1].second, "/b=c.gguf");
  EXPECT_EQ(options->threads, 3);
  EXPECT_EQ(options->kv_bytes, uint64_t{2} << 30);
  EXPECT_EQ(options->policy.layer_k, (std::vector<int64_t>{0, 64}));
  EXPECT_EQ(options->policy.tail, AttentionPolicy::Tail::kNone);
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
      {"--listen=8001", "--listen"},
      {"--listen=host:70000", "--listen"},
      {"--metrics_listen=:1", "--metrics_listen"},
      {"--default_ttl=-1s", "--default_ttl"},
      {"--no_evidence_threshold=2", "--no_evidence_threshold"},
      {"--log_level=loud", "--log_level"},
      {"--model=m=/again", "--model"},
      {"--queue_capacity=", "--queue_capacity"},
      {"positional", "positional"},
      {"--default_max_new_tokens=5000", "--default_max_new_tokens"}};
  for (const auto& [flag, name] : bad) {
    const std::string error = ErrorOf({flag});
    EXPECT_THAT(error, HasSubstr(name)) << flag;
    EXPECT_EQ(error.find('\n'), std::string::npos) << flag;
  }
  EXPECT_THAT(ErrorOf({"--threads=1", "--threads=2"}), HasSubstr("given twice"));
  EXPECT_THAT(std::string(ParseOptions({}).status().message()), HasSubstr("--model"));
}

TEST(OptionsTest, HelpNeedsNoModel) {
  EXPECT_TRUE(ParseOptions({"--help"}).ok());
  EXPECT_THAT(HelpText(), HasSubstr("--kv_bytes=BYTES"));
}

}  // namespace
}  // namespace lectern
