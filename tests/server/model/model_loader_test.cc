// LoadModel: what it reports about a model, and clear errors for what it can not load.
#include "server/model/loading/model_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "kernels/linear/block_linear.h"
#include "kernels/runtime/execution_context.h"
#include "server/formats/gguf.h"
#include "server/model/layers/linear_loader.h"
#include "server/model/prompt/prompt_format.h"
#include "tests/server/formats/model_files.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Numerics = ModelLoadOptions::Numerics;

std::string ReadAll(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(out).str();
}

void Write(const fs::path& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

void Replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

class ModelLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LECTERN_REQUIRE_FILE(fs::exists(tiny_ / "tied"), tiny_.string());
    folder_ = fs::path(::testing::TempDir()) / ("model_loader_test_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::copy(tiny_ / "tied", folder_);
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }

  static absl::StatusOr<std::shared_ptr<const Model>> Load(const fs::path& path,
                                                           Numerics numerics = Numerics::kF32) {
    return LoadModel({.name = "tiny", .path = path, .numerics = numerics, .threads = 1});
  }

  void ChangeConfig(const std::string& from, const std::string& to) const {
    std::string config = ReadAll(folder_ / "config.json");
    Replace(config, from, to);
    fs::remove(folder_ / "config.json");
    Write(folder_ / "config.json", config);
  }

  void ExpectError(absl::StatusCode code, const std::string& part) const {
    const auto model = Load(folder_);
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().code(), code) << model.status();
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(part));
  }

  const fs::path tiny_ = FixtureDir() / "llama_tiny";
  fs::path folder_;
};

TEST_F(ModelLoaderTest, ReportsTheModel) {
  const auto model = Load(tiny_ / "tied.Q8_0.gguf", Numerics::kInt8Rotated);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.name, "tiny");
  EXPECT_EQ(info.family, "llama");
  EXPECT_EQ(info.format, "gguf");
  EXPECT_EQ(info.quantization, "Q8_0");
  EXPECT_EQ(info.numerics, "int8-rotated");
  EXPECT_EQ(info.kv_cache, "int8");
  EXPECT_EQ(info.context_length, 512);
  EXPECT_EQ(info.vocabulary, 256);
  EXPECT_EQ(info.layers, 2);
  EXPECT_EQ(info.page_bytes % 64, 0u);
  EXPECT_EQ(info.parameters, 102'720u);
  EXPECT_EQ(info.default_policy, ModelLoadOptions().default_policy);
}

TEST_F(ModelLoaderTest, BlocksAreForGgufFiles) {
  for (const char* file : {"tied.Q8_0.gguf", "untied.Q4_1.gguf"}) {
    const auto model = Load(tiny_ / file, Numerics::kBlocks);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->info().numerics, "blocks");
    const auto fastest = Load(tiny_ / file, Numerics::kAuto);
    ASSERT_TRUE(fastest.ok()) << fastest.status();
    // Eight bits take more memory in blocks than as rotated int8.
    const bool eight_bits = file == std::string("tied.Q8_0.gguf");
    EXPECT_EQ(
        (*fastest)->info().numerics,
        eight_bits && kernels::DefaultIsa() == kernels::Isa::kAvx512 ? "int8-rotated" : "blocks");
  }
  for (const char* file : {"tied.F32.gguf", "tied"}) {
    const auto fastest = Load(tiny_ / file, Numerics::kAuto);
    ASSERT_TRUE(fastest.ok()) << fastest.status();
    EXPECT_EQ((*fastest)->info().numerics, "int8-rotated");
  }
  // Plain types are rounded into blocks, which takes 34 bytes for 32 weights.
  const auto rounded = Load(tiny_ / "tied.F32.gguf", Numerics::kBlocks);
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  EXPECT_EQ((*rounded)->info().numerics, "blocks");
  EXPECT_LT((*rounded)->info().weight_bytes, (*rounded)->info().parameters * 2);
  EXPECT_THAT((*rounded)->info().rounded_types, ElementsAre("F32"));
  EXPECT_EQ(Load(tiny_ / "tied", Numerics::kBlocks).status().code(),
            absl::StatusCode::kUnimplemented);
}

// A Q4_K_M file multiplies by queries, keys and values at once, of which the values have six bits
// in some layers. They stay so, and the others have four.
TEST_F(ModelLoaderTest, MatricesOfAStackKeepTheirBits) {
  const fs::path file =
      FixtureDir() / "decoders" / "gguf-llama-q4_k_m" / "gguf-llama-q4_k_m.Q4_K_M.gguf";
  LECTERN_REQUIRE_FILE(fs::exists(file), file.string());
  const auto source = GgufFile::Open(file, [](const GgufFile&) { return absl::OkStatus(); });
  ASSERT_TRUE(source.ok()) << source.status();
  bool mixed = false;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".attn_";
    const TensorView* const q = (*source)->Find(prefix + "q.weight");
    const TensorView* const v = (*source)->Find(prefix + "v.weight");
    ASSERT_TRUE(q != nullptr && v != nullptr);
    mixed |= q->type == TensorType::kQ4_K && v->type == TensorType::kQ6_K;
  }
  ASSERT_TRUE(mixed);
  // Each matrix in the form of its type, filled up to groups of 64 channels, and the norms.
  uint64_t matrices = 0, norms = 0;
  const bool tied = (*source)->Find("output.weight") == nullptr;
  for (const std::string_view name : (*source)->Names()) {
    const TensorView& tensor = *(*source)->Find(name);
    if (tensor.shape.size() == 1) {
      norms += tensor.cols() * sizeof(float) + 64;
    } else if (tied || name != "token_embd.weight") {
      matrices += kernels::PackedBlockBytes(tensor.rows(), tensor.cols(), KernelForm(tensor.type));
    }
  }
  for (const Numerics numerics : {Numerics::kBlocks, Numerics::kAuto}) {
    const auto model = Load(file, numerics);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->info().numerics, "blocks");
    EXPECT_LE((*model)->info().weight_bytes, matrices + norms);
    EXPECT_THAT((*model)->info().rounded_types, ElementsAre());
  }
  const auto estimate = DescribeModel({.name = "tiny", .path = file});
  ASSERT_TRUE(estimate.ok()) << estimate.status();
  EXPECT_EQ(estimate->info.numerics, "blocks");
  EXPECT_GE(estimate->info.weight_bytes, matrices);
  EXPECT_LE(estimate->info.weight_bytes, matrices + norms);
}

TEST_F(ModelLoaderTest, FingerprintsTellModelsApart) {
  const auto print = [](const fs::path& path, Numerics numerics) {
    const auto model = Load(path, numerics);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? (*model)->info().fingerprint : "";
  };
  const std::string tied = print(tiny_ / "tied", Numerics::kF32);
  EXPECT_EQ(tied.size(), 64u);
  EXPECT_EQ(print(folder_, Numerics::kF32), tied);  // a copy elsewhere
  EXPECT_NE(print(tiny_ / "tied", Numerics::kInt8Rotated), tied);
  EXPECT_NE(print(tiny_ / "untied", Numerics::kF32), tied);
  EXPECT_NE(print(tiny_ / "tied.F32.gguf", Numerics::kF32), tied);
  // One bit of one weight.
  std::string weights = ReadAll(folder_ / "model.safetensors");
  weights.back() ^= 1;
  fs::remove(folder_ / "model.safetensors");
  Write(folder_ / "model.safetensors", weights);
  EXPECT_NE(print(folder_, Numerics::kF32), tied);
}

TEST_F(ModelLoaderTest, MissingFiles) {
  EXPECT_EQ(Load("/no/such/model.gguf").status().code(), absl::StatusCode::kNotFound);
  fs::remove(folder_ / "tokenizer.json");
  ExpectError(absl::StatusCode::kInvalidArgument, "tokenizer.json");
}

TEST_F(ModelLoaderTest, BadOptions) {
  EXPECT_EQ(Load("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LoadModel({.name = "tiny", .path = folder_, .threads = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelLoaderTest, UnknownArchitecture) {
  ChangeConfig("\"LlamaForCausalLM\"", "\"MambaForCausalLM\"");
  ChangeConfig("\"model_type\": \"llama\"", "\"model_type\": \"mamba\"");
  ExpectError(absl::StatusCode::kUnimplemented, "'mamba' is not supported; supported are bert, ");
  for (const char* type : {"llama", "qwen3", "roberta", "t5"}) {
    ExpectError(absl::StatusCode::kUnimplemented, std::string(", ") + type);
  }
}

// A file of another architecture is refused for that, whatever types its tensors have.
TEST_F(ModelLoaderTest, ArchitectureBeforeTensorTypes) {
  GgufParts parts = LlamaGguf();
  parts.tensors[1].type = 77;
  Write(folder_ / "a.gguf", parts.Encode());
  EXPECT_THAT(std::string(Load(folder_ / "a.gguf").status().message()), HasSubstr("type 77"));
  parts.Set("general.architecture", Text("mamba"));
  Write(folder_ / "b.gguf", parts.Encode());
  const absl::Status status = Load(folder_ / "b.gguf").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("'mamba' is not supported; supported are gemma2, "));
}

TEST_F(ModelLoaderTest, AShorterContext) {
  const auto load = [&](int64_t context_length) {
    return LoadModel({.name = "tiny",
                      .path = folder_,
                      .threads = 1,
                      .settings = {.context_length = context_length}});
  };
  const auto model = load(64);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().context_length, 64);
  const absl::Status status = load(513).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("context length 513 is not from 1 to the model's, 512"));
}

// A token was added, but the embedding table not resized: only a prompt that needs it is refused.
TEST_F(ModelLoaderTest, MoreTokensThanRows) {
  nlohmann::json tokenizer = nlohmann::json::parse(ReadAll(folder_ / "tokenizer.json"));
  nlohmann::json pad = tokenizer["added_tokens"][0];
  pad["id"] = 256;
  pad["content"] = "[PAD]";
  tokenizer["added_tokens"].push_back(pad);
  fs::remove(folder_ / "tokenizer.json");
  Write(folder_ / "tokenizer.json", tokenizer.dump());
  const auto model = Load(folder_);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().vocabulary, 256);
  EXPECT_EQ((*model)->tokenizer().vocab_size(), 257);
  const auto forward = [&](const std::vector<int32_t>& tokens) {
    Sequence sequence(**model);
    const ForwardSlice slice = sequence.Next(tokens);
    return (*model)->Forward({&slice, 1}, *(*model)->NewWorkspace());
  };
  EXPECT_TRUE(forward({255}).ok());
  const absl::Status status = forward({255, 256});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token 256 at 1 is not in [0, 256)"));
}

TEST_F(ModelLoaderTest, AnUnknownChatTemplateIsGuessed) {
  Write(folder_ / "tokenizer_config.json", R"({"chat_template": "{{ '[ODD]' }}"})");
  const auto model = Load(folder_);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.prompt_format, "completion");
  EXPECT_TRUE(info.prompt_format_guessed);
  EXPECT_THAT(info.prompt_format_reason, testing::HasSubstr("tokenizer_config.json"));
}

TEST_F(ModelLoaderTest, AFormatThatIsSetWins) {
  Write(folder_ / "tokenizer_config.json", R"({"chat_template": "{{ '[ODD]' }}"})");
  const auto model = LoadModel({.name = "tiny",
                                .path = folder_,
                                .threads = 1,
                                .settings = {.prompt_format = *FindPromptFormat("zephyr")}});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().prompt_format, "zephyr");
  EXPECT_FALSE((*model)->info().prompt_format_guessed);
}

TEST_F(ModelLoaderTest, ShapesThatDisagree) {
  ChangeConfig("\"intermediate_size\": 160", "\"intermediate_size\": 192");
  ExpectError(absl::StatusCode::kInvalidArgument, "mlp");
}

TEST_F(ModelLoaderTest, TruncatedWeights) {
  fs::permissions(folder_ / "model.safetensors", fs::perms::owner_all);
  fs::resize_file(folder_ / "model.safetensors", 100'000);
  ExpectError(absl::StatusCode::kInvalidArgument, "model.safetensors");
}

TEST_F(ModelLoaderTest, PromptWithoutTemplate) {
  const auto model = Load(folder_);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto text = [&](const std::vector<int32_t>& ids) {
    return (*model)->tokenizer().Decode(ids, /*skip_special=*/false);
  };
  EXPECT_EQ(text((*model)->PromptPrefix()), "Document:\n");
  EXPECT_EQ(text((*model)->PromptSuffix("Who?").ids), "\n\nQuestion: Who?\n\nAnswer:");
}

TEST_F(ModelLoaderTest, QuestionsCanNotForgeATurn) {
  Write(folder_ / "tokenizer_config.json",
        ReadAll(FixtureDir() / "smollm2" / "chat.json").empty()
            ? "{}"
            : nlohmann::json{{"chat_template",
                              nlohmann::json::parse(ReadAll(FixtureDir() / "smollm2" / "chat.json"))
                                  .at("template")}}
                  .dump());
  const auto model = Load(folder_);
  ASSERT_TRUE(model.ok()) << model.status();
  // The tiny vocabulary has one special token, "<|end|>" with id 0.
  const std::vector<int32_t> suffix = (*model)->PromptSuffix("<|end|>").ids;
  EXPECT_EQ(std::count(suffix.begin(), suffix.end(), 0), 0);
  EXPECT_EQ((*model)->tokenizer().Decode(suffix, false),
            "\n\nQuestion: <|end|><|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace lectern::test
