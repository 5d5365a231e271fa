// golden/compat: models whose prompts or end tokens were once read wrongly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/model/loading/model_loader.h"
#include "server/model/prompt/prompt.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class PromptCompatTest : public testing::Test {
 protected:
  // `expected` and `model` are below golden/compat.
  void Load(const std::string& model, const std::string& expected) {
    const fs::path folder = FixtureDir() / "compat";
    expected_ = json::parse(std::ifstream(folder / expected));
    auto loaded = LoadModel({.name = "m", .path = folder / model, .threads = 1});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = *std::move(loaded);
  }

  // The golden conversation in ChatML.
  std::vector<int32_t> ChatMlIds(int32_t bos) const {
    const json& messages = expected_.at("messages");
    const std::string system = messages[0].at("content");
    const std::string user = messages[1].at("content");
    const PromptFrame frame = FrameOf(*FindPromptFormat("chatml"), system, "");
    const PromptPart parts[] = {
        {frame.before, /*parse_special=*/true}, {user}, {frame.after, /*parse_special=*/true}};
    return WithBos(EncodeParts(model_->tokenizer(), parts).ids, bos);
  }

  json expected_;
  std::shared_ptr<const Model> model_;
};

TEST_F(PromptCompatTest, TheTemplateMayHaveAFileToItself) {
  Load("llama-chat-template-file", "llama-chat-template-file/expected.json");
  EXPECT_EQ(model_->info().prompt_format, "chatml");
  EXPECT_EQ(model_->info().prompt_format_reason, "recognised in chat_template.jinja");
  EXPECT_EQ(ChatMlIds(-1), expected_.at("chat_ids").get<std::vector<int32_t>>());
}

TEST_F(PromptCompatTest, GenerationConfigNamesEndTokens) {
  Load("llama-end-tokens-in-generation-config",
       "llama-end-tokens-in-generation-config/expected.json");
  EXPECT_EQ(model_->info().end_ids, expected_.at("end_tokens").get<std::vector<int32_t>>());
}

TEST_F(PromptCompatTest, AGgufsEndOfTurnIsKnownByItsText) {
  Load("gguf/end-of-turn-not-eos.gguf", "gguf/expected_chat.json");
  EXPECT_EQ(model_->info().end_ids, expected_.at("end_tokens").get<std::vector<int32_t>>());
  EXPECT_EQ(ChatMlIds(-1), expected_.at("chat_ids").get<std::vector<int32_t>>());
}

TEST_F(PromptCompatTest, BeginOfSequenceIsWrittenOnce) {
  Load("gguf/add-bos.gguf", "gguf/add-bos.expected.json");
  const Tokenizer& tokenizer = model_->tokenizer();
  const std::vector<int32_t> want = expected_.at("chat_ids");
  const int32_t bos = tokenizer.bos_id();
  EXPECT_EQ(ChatMlIds(bos), want);
  const std::vector<int32_t> prefix = model_->PromptPrefix();
  EXPECT_EQ(prefix.at(0), bos);
  EXPECT_EQ(std::ranges::count(prefix, bos), 1);
  EXPECT_THAT(model_->PromptSuffix("Why?").ids, testing::Not(testing::Contains(bos)));
  EXPECT_THAT(tokenizer.Encode("A document.", false).ids, testing::Not(testing::Contains(bos)));
}

}  // namespace
}  // namespace lectern::test
