// Prompt formats and end tokens through a real server, with small models.
#include <fstream>

#include "tests/e2e/e2e_fixture.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

fs::path CompatFolder() { return test::FixtureDir() / "compat"; }

class PromptFormatsE2eTest : public E2eTest {
 protected:
  void SetUp() override {}  // each test starts its own server

  void Start(const std::string& model, const std::vector<std::string>& flags = {}) {
    own_ = std::make_unique<test::ServerProcess>(flags, model);
    ASSERT_TRUE(own_->WaitUntilReady()) << own_->Log();
    Connect(*own_);
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    ASSERT_TRUE(stub_->ListModels(&context, {}, &response).ok());
    model_ = response.models(0);
  }

  v1::Answer AskTiny() {
    v1::AskRequest request;
    request.set_inline_text("The pump failed at noon.");
    request.set_question("When did it fail?");
    request.set_max_new_tokens(24);
    const AskResult result = Ask(request);
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    return result.answer;
  }

  // A copy of a model whose chat template is `jinja`.
  std::string WithTemplate(const std::string& jinja) {
    const fs::path copy = fs::path(folder_.path()) / "model";
    fs::remove_all(copy);
    fs::copy(CompatFolder() / "llama-chat-template-file", copy);
    std::ofstream(copy / "chat_template.jinja") << jinja;
    return copy;
  }

  std::unique_ptr<test::ServerProcess> own_;
  v1::ModelInfo model_;
  TemporaryFolder folder_;
};

// Both models write "ab", then an end token that their main setting does not name.
TEST_F(PromptFormatsE2eTest, AnswersEndAtEveryEndToken) {
  for (const char* model :
       {"llama-end-tokens-in-generation-config", "gguf/end-of-turn-not-eos.gguf"}) {
    SCOPED_TRACE(model);
    Start(CompatFolder() / model);
    const v1::Answer answer = AskTiny();
    EXPECT_EQ(answer.text(), "ab");
    EXPECT_EQ(answer.finish_reason(), v1::Answer::FINISH_REASON_STOP);
  }
}

TEST_F(PromptFormatsE2eTest, TheFormatOfTheTemplateIsLoggedAndListed) {
  Start(CompatFolder() / "llama-chat-template-file");
  EXPECT_EQ(model_.prompt_format(), "chatml");
  EXPECT_EQ(model_.prompt_format_reason(), "recognised in chat_template.jinja");
  EXPECT_THAT(own_->Log(), HasSubstr(R"("prompt_format":"chatml")"));
  EXPECT_THAT(own_->Log(), Not(HasSubstr("chat template is not known")));
}

TEST_F(PromptFormatsE2eTest, AnUnknownTemplateIsAWarning) {
  Start(WithTemplate("{% for m in messages %}{{ '[ODD]' + m['content'] }}{% endfor %}"));
  EXPECT_EQ(model_.prompt_format(), "chatml") << "<|im_start|> is a token of this model";
  EXPECT_THAT(own_->Log(), HasSubstr("chat template is not known"));
  EXPECT_THAT(own_->Log(), HasSubstr("<|im_start|> is a token"));
  AskTiny();
}

TEST_F(PromptFormatsE2eTest, AFormatIsSetByNameOrByFile) {
  const std::string model = CompatFolder() / "llama-chat-template-file";
  Start(model);
  const std::string fingerprint = model_.fingerprint();

  Start(model, {"--prompt_format=test=completion"});
  EXPECT_EQ(model_.prompt_format(), "completion");
  EXPECT_EQ(model_.prompt_format_reason(), "set by --prompt_format");
  EXPECT_NE(model_.fingerprint(), fingerprint) << "documents follow another prompt";

  const std::string file = folder_.path() + "/own.json";
  std::ofstream(file) << R"({"user_begin": "U: ", "answer_begin": "\nA:", "end_of_turn": "yx"})";
  Start(CompatFolder() / "llama-end-tokens-in-generation-config", {"--prompt_format=test=" + file});
  EXPECT_EQ(model_.prompt_format(), file);
  const v1::Answer answer = AskTiny();
  EXPECT_EQ(answer.text(), "x") << "of \"xyxyxy...\", up to the format's end of turn";
  EXPECT_EQ(answer.finish_reason(), v1::Answer::FINISH_REASON_STOP);
  EXPECT_EQ(answer.stop_string(), "");
}

TEST_F(PromptFormatsE2eTest, AContextLengthIsSet) {
  Start(CompatFolder() / "llama-chat-template-file", {"--context_length=test=900"});
  EXPECT_EQ(model_.window(), 900u);
}

TEST_F(PromptFormatsE2eTest, BadFormatsEndTheProgramWithStatus2) {
  const std::string file = folder_.path() + "/bad.json";
  std::ofstream(file) << R"({"user_begin": "U: "})";
  for (const std::string& format : {std::string("odd"), file}) {
    test::ServerProcess server({"--prompt_format=test=" + format},
                               CompatFolder() / "llama-chat-template-file");
    EXPECT_EQ(server.WaitForExit(30), 2) << format;
  }
}

}  // namespace
}  // namespace lectern::e2e
