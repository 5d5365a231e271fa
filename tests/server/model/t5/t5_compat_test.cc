// T5 v1.1 as transformers 5 saves it (tests/golden/compat): `tie_word_embeddings` is always true,
// and `scale_decoder_outputs` and the file's lm_head.weight say what holds. Then how a T5 model's
// prompt is chosen, and the settings that readers have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/model/loading/model_loader.h"
#include "server/model/t5/t5_config.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr char kOwnHead[] = "t5-v1.1-saved-by-transformers-5";
constexpr char kSharedHead[] = "t5-v1.1-shared-head-saved-by-transformers-5";

std::shared_ptr<const Model> Load(const std::string& folder, ModelSettings settings = {}) {
  const auto model = LoadModel({.name = "t5",
                                .path = folder,
                                .numerics = ModelLoadOptions::Numerics::kF32,
                                .settings = settings});
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

class T5CompatTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Heads, T5CompatTest, testing::Values(kOwnHead, kSharedHead));

TEST_P(T5CompatTest, LogitsMatchTransformers) {
  const std::filesystem::path folder = FixtureDir() / "compat" / GetParam();
  LECTERN_REQUIRE_FILE(exists(folder), folder.string());
  const json expected = json::parse(std::ifstream(folder / "expected.json"));
  const auto model = Load(folder);
  ASSERT_NE(model, nullptr);
  const auto encoder_ids = expected.at("encoder_ids").get<std::vector<int32_t>>();
  const auto decoder_ids = expected.at("decoder_ids").get<std::vector<int32_t>>();
  const auto want_last = expected.at("logits_of_last_position").get<std::vector<double>>();
  const auto workspace = model->NewWorkspace();
  Sequence memory(*model), answer(*model);
  ForwardSlice read = memory.Next(encoder_ids);
  read.encode = true;
  ASSERT_TRUE(model->Forward({&read, 1}, *workspace).ok());
  const size_t vocabulary = model->info().vocabulary;
  std::vector<float> logits(decoder_ids.size() * vocabulary);
  ForwardSlice write = answer.Next(decoder_ids);
  write.memory = memory.pages();
  write.memory_tokens = memory.position();
  write.all_logits = logits.data();
  ASSERT_TRUE(model->Forward({&write, 1}, *workspace).ok());
  std::vector<int32_t> best;
  for (auto row = logits.begin(); row != logits.end(); row += vocabulary) {
    best.push_back(static_cast<int32_t>(std::max_element(row, row + vocabulary) - row));
  }
  EXPECT_EQ(best, expected.at("argmax_at_every_position").get<std::vector<int32_t>>());
  // The file has five decimals of an fp32 run.
  EXPECT_EQ(CompareValues({logits.end() - vocabulary, logits.end()}, want_last, {5e-5, 1e-5}), "");
}

TEST(T5ConfigTest, FeedForwardsByName) {
  using kernels::FfnActivation;
  const std::tuple<const char*, FfnActivation, bool> table[] = {
      {"relu", FfnActivation::kRelu, false},          {"gelu", FfnActivation::kGelu, false},
      {"gated-gelu", FfnActivation::kGeluTanh, true}, {"gated-silu", FfnActivation::kSilu, true},
      {"gated-relu", FfnActivation::kRelu, true},
  };
  json config = json::parse(std::ifstream(FixtureDir() / "t5_tiny" / "v1_1" / "config.json"));
  for (const auto& [name, activation, gated] : table) {
    config["feed_forward_proj"] = name;
    const auto read = ReadT5Config(config.dump(), "config.json");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->activation, activation) << name;
    EXPECT_EQ(read->gated, gated) << name;
  }
}

// Absent, what tie_word_embeddings says: files of transformers 4.
TEST(T5ConfigTest, WhetherTheHeadIsScaled) {
  json config = json::parse(std::ifstream(FixtureDir() / "t5_tiny" / "v1_1" / "config.json"));
  for (const bool tied : {false, true}) {
    config["tie_word_embeddings"] = tied;
    config.erase("scale_decoder_outputs");
    EXPECT_EQ(ReadT5Config(config.dump(), "config.json")->scales_head, tied);
    for (const bool scaled : {false, true}) {
      config["scale_decoder_outputs"] = scaled;
      EXPECT_EQ(ReadT5Config(config.dump(), "config.json")->scales_head, scaled);
    }
  }
}

// The part of a window before the document reads as `text`.
void ExpectPrompt(const Model& model, const std::string& question, const std::string& text) {
  const EncoderPrompt prompt = model.EncoderPromptOf(question);
  EXPECT_EQ(prompt.before, model.tokenizer().Encode(text, /*parse_special=*/false).ids);
  EXPECT_EQ(prompt.after, (std::vector<int32_t>{model.tokenizer().eos_id()}));
}

TEST(T5PromptTest, UnifiedQaAndFlanReadDifferentForms) {
  const std::filesystem::path tiny = FixtureDir() / "t5_tiny";
  const auto unified = Load(tiny / "v1_0"), flan = Load(tiny / "v1_1");
  ASSERT_TRUE(unified != nullptr && flan != nullptr);
  ExpectPrompt(*unified, "Who was it?", "who was it? \\n");
  ExpectPrompt(*flan, "who was it?", "question: who was it? context:");
  EXPECT_NE(flan->EncoderPromptOf("Who was it?").before,
            flan->EncoderPromptOf("who was it?").before);
}

TEST(T5PromptTest, TheCaseIsASetting) {
  const std::filesystem::path tiny = FixtureDir() / "t5_tiny";
  for (const char* version : {"v1_0", "v1_1"}) {
    SCOPED_TRACE(version);
    const auto lower = Load(tiny / version, {.lower_case = true});
    const auto written = Load(tiny / version, {.lower_case = false});
    ASSERT_TRUE(lower != nullptr && written != nullptr);
    const auto ids = [](const Model& model, const char* text) {
      return model.tokenizer().Encode(text, /*parse_special=*/false).ids;
    };
    EXPECT_EQ(ids(*lower, "Marlow Bridge"), ids(*lower, "marlow bridge"));
    EXPECT_NE(ids(*written, "Marlow Bridge"), ids(*written, "marlow bridge"));
    EXPECT_NE(lower->info().fingerprint, written->info().fingerprint);
  }
}

TEST(ReaderSettingsTest, TheContextLengthCanBeLowered) {
  for (const char* folder : {"t5_tiny/v1_0", "bert_qa_tiny/model"}) {
    SCOPED_TRACE(folder);
    const std::filesystem::path path = FixtureDir() / folder;
    const int64_t own = Load(path)->info().context_length;
    EXPECT_EQ(Load(path, {.context_length = own - 1})->info().context_length, own - 1);
    const auto longer =
        LoadModel({.name = "m", .path = path.string(), .settings = {.context_length = own + 1}});
    EXPECT_EQ(longer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(longer.status().message()), HasSubstr("is not from 1 to the model's"));
  }
}

TEST(ReaderSettingsTest, SettingsOfOtherFamiliesAreRefused) {
  const auto refused = [](const std::filesystem::path& path, const ModelSettings& settings) {
    return std::string(
        LoadModel({.name = "m", .path = path.string(), .settings = settings}).status().message());
  };
  const ModelSettings no_answer{.no_answer = ModelSettings::NoAnswer{}};
  const ModelSettings lower_case{.lower_case = true};
  const std::filesystem::path dir = FixtureDir();
  EXPECT_THAT(refused(dir / "t5_tiny" / "v1_0", no_answer),
              HasSubstr("--no_answer=m=...: the model is not a span reader"));
  EXPECT_THAT(refused(dir / "bert_qa_tiny" / "model", lower_case),
              HasSubstr("--lower_case=m=...: the model is not a T5 model"));
  const ModelSettings format{.prompt_format = PromptFormat{}};
  EXPECT_THAT(refused(dir / "t5_tiny" / "v1_0", format),
              HasSubstr("--prompt_format=m=...: the model is not a decoder"));
  EXPECT_THAT(refused(dir / "bert_qa_tiny" / "model", format), HasSubstr("not a decoder"));
  EXPECT_THAT(refused(dir / "llama_tiny" / "tied", no_answer), HasSubstr("not a span reader"));
  EXPECT_THAT(refused(dir / "llama_tiny" / "tied", lower_case), HasSubstr("not a T5 model"));
}

}  // namespace
}  // namespace lectern::test
