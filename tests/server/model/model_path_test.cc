// Mistakes that people make with model files: each is named for what it is, with what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "server/model/loading/model_loader.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr char kPointer[] =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 271000000\n";

class ModelPathTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path Write(const std::string& name, const std::string& contents = "{}") {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << contents;
    return path;
  }

  // Loading and describing refuse `path` with the same message.
  static void ExpectRefused(const fs::path& path, absl::StatusCode code, const std::string& words) {
    const ModelLoadOptions options{.name = "model", .path = path, .threads = 1};
    for (const absl::Status& status :
         {LoadModel(options).status(), DescribeModel(options).status()}) {
      EXPECT_EQ(status.code(), code) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    }
  }

  // A GGUF file with two metadata strings, and one tensor if its type is given.
  static std::string Gguf(const std::string& type, const std::string& architecture,
                          int tensor_type = -1) {
    std::string file("GGUF\3\0\0\0", 8);
    const auto number = [&file](uint64_t value, int bytes) {
      for (int i = 0; i < bytes; ++i) file.push_back(static_cast<char>(value >> (8 * i)));
    };
    const auto text = [&](const std::string& value) {
      number(value.size(), 8);
      file += value;
    };
    number(tensor_type == -1 ? 0 : 1, 8);
    number(2, 8);
    text("general.type");
    number(8, 4);
    text(type);
    text("general.architecture");
    number(8, 4);
    text(architecture);
    if (tensor_type == -1) return file;
    text("output.weight");
    number(1, 4);  // dimensions
    number(256, 8);
    number(tensor_type, 4);
    number(0, 8);  // offset
    return file + std::string(4096, '\0');
  }

  // A safetensors file with one tensor of one byte.
  static std::string Safetensors(const std::string& dtype, int bytes) {
    const std::string header = R"({"lm_head.weight":{"dtype":")" + dtype +
                               R"(","shape":[1],"data_offsets":[0,)" + std::to_string(bytes) +
                               "]}}";
    std::string file(8, '\0');
    file[0] = static_cast<char>(header.size());
    return file + header + std::string(bytes, '\0');
  }

  // Writes a folder of a small model of the project, its weights replaced.
  fs::path FolderWithWeights(const std::string& name, const std::string& weights) {
    const fs::path model = test::FixtureDir() / "llama_tiny" / "tied";
    for (const char* file : {"config.json", "tokenizer.json"}) {
      Write(name + "/" + file, Contents(model / file));
    }
    return Write(name + "/model.safetensors", weights).parent_path();
  }

  static std::string Contents(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file) << path;
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) / ("model_path_test_" + std::to_string(getpid()));
};

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

TEST_F(ModelPathTest, PathsWithNothingThere) {
  ExpectRefused(folder_ / "absent.gguf", kNotFound, "no such file or folder");
  ExpectRefused("org/no-such-model", kNotFound, "hf download org/no-such-model --local-dir FOLDER");
}

TEST_F(ModelPathTest, FailedDownloads) {
  ExpectRefused(Write("empty.gguf", ""), kInvalid, "is the download complete?");
  ExpectRefused(Write("pointer.gguf", kPointer), kInvalid, "Git LFS pointer");
  ExpectRefused(Write("page.gguf", "\n<!DOCTYPE html><html>"), kInvalid, "HTML page");
  ExpectRefused(Write("cut.gguf", "GGUF"), kInvalid, "the file ends");
  const fs::path tiny = test::FixtureDir() / "llama_tiny";
  const std::string gguf = Contents(tiny / "tied.F32.gguf");
  ExpectRefused(Write("half.gguf", gguf.substr(0, gguf.size() / 2)), kInvalid,
                "is the download complete?");
  const std::string weights = Contents(tiny / "tied" / "model.safetensors");
  ExpectRefused(FolderWithWeights("half", weights.substr(0, weights.size() / 2)), kInvalid,
                "is the download complete?");
  Write("lfs/config.json");
  Write("lfs/model.safetensors", kPointer);
  ExpectRefused(folder_ / "lfs", kInvalid, "Git LFS pointer");
}

TEST_F(ModelPathTest, FailedDownloadsOfAPart) {
  const std::string first = Write("split-00001-of-00002.gguf", "GGUF");
  const std::string second = Write("split-00002-of-00002.gguf", kPointer);
  for (const std::string& named : {first, second, folder_.string()}) {
    ExpectRefused(named, kInvalid, second + ": is a Git LFS pointer");
  }
  Write("shards/config.json");
  Write("shards/model.safetensors.index.json", "{}");
  Write("shards/model-00001-of-00002.safetensors");
  Write("shards/model-00002-of-00002.safetensors", kPointer);
  ExpectRefused(folder_ / "shards", kInvalid,
                "model-00002-of-00002.safetensors: is a Git LFS pointer");
}

TEST_F(ModelPathTest, OtherKindsOfFiles) {
  ExpectRefused(Write("weights.bin", "\x80\x02"), kUnimplemented, "save_pretrained");
  ExpectRefused(Write("weights", "PK\x03\x04"), kUnimplemented, "is a pickle");
  ExpectRefused(Write("model.onnx", "\x08"), kUnimplemented, "ONNX");
  ExpectRefused(Write("folder/model.safetensors"), kInvalid, (folder_ / "folder").string());
  ExpectRefused(Write("big.gguf", std::string("GGUF\0\0\0\3", 8)), kUnimplemented, "big-endian");
}

TEST_F(ModelPathTest, GgufFilesThatAreNoLanguageModels) {
  ExpectRefused(Write("lora.gguf", Gguf("adapter", "llama")), kUnimplemented, "adapter");
  ExpectRefused(Write("mmproj.gguf", Gguf("mmproj", "clip")), kUnimplemented, "vision projector");
  ExpectRefused(Write("imatrix.gguf", Gguf("imatrix", "")), kUnimplemented, "importance matrix");
  ExpectRefused(Write("other.gguf", Gguf("model", "mamba")), kUnimplemented,
                "'mamba' is not supported");
}

TEST_F(ModelPathTest, TensorsOfOtherTypes) {
  ExpectRefused(FolderWithWeights("fp8", Safetensors("F8_E4M3", 1)), kUnimplemented,
                "tensor 'lm_head.weight': dtype F8_E4M3 is not supported; F32, F16 and BF16 are");
  ExpectRefused(FolderWithWeights("f64", Safetensors("F64", 8)), kUnimplemented,
                "tensor 'lm_head.weight': dtype F64 is not supported; F32, F16 and BF16 are");
  // The architecture comes first: with other types the file would not be served either.
  ExpectRefused(Write("f64.gguf", Gguf("model", "llama", 28)), kInvalid,
                "tensor 'output.weight': type 28 (F64) is not supported; F32, F16");
  ExpectRefused(Write("iq2.gguf", Gguf("model", "llama", 16)), kInvalid, "type 16 (IQ2_XXS)");
  ExpectRefused(Write("other.gguf", Gguf("model", "mamba", 28)), kUnimplemented,
                "'mamba' is not supported");
}

TEST_F(ModelPathTest, ARefusedRopeScalingIsNamedFirst) {
  const fs::path folder = FolderWithWeights("rope", Safetensors("F32", 4));
  std::string config = Contents(folder / "config.json");
  const std::string none = R"("rope_scaling": null)";
  const size_t begin = config.find(none);
  ASSERT_NE(begin, std::string::npos);
  config.replace(begin, none.size(),
                 R"("rope_scaling": {"attention_factor": 1.0, "beta_fast": 32.0, "factor": 8.0,
                                     "original_max_position_embeddings": 64, "type": "dynamic"})");
  Write("rope/config.json", config);
  ExpectRefused(folder, kUnimplemented, "'dynamic' is not supported");
}

TEST_F(ModelPathTest, FoldersThatHoldSomethingElse) {
  Write("lora/adapter_config.json");
  ExpectRefused(folder_ / "lora", kUnimplemented, "merge_and_unload");
  Write("pickles/config.json");
  Write("pickles/pytorch_model.bin");
  ExpectRefused(folder_ / "pickles", kUnimplemented, "save_pretrained");
  Write("meta/consolidated.safetensors");
  ExpectRefused(folder_ / "meta", kUnimplemented, "consolidated");
  Write("onnx/config.json");
  Write("onnx/model.onnx");
  ExpectRefused(folder_ / "onnx", kUnimplemented, "ONNX");
  Write("cache/snapshots/abc/config.json");
  ExpectRefused(folder_ / "cache", kInvalid, (folder_ / "cache/snapshots/abc").string());
  Write("nothing/README.md");
  ExpectRefused(folder_ / "nothing", kInvalid, "holds no model");
}

TEST_F(ModelPathTest, AFolderOfGgufFiles) {
  Write("one/lora.gguf", Gguf("adapter", "llama"));
  ExpectRefused(folder_ / "one", kUnimplemented, "lora.gguf");  // that file is read
  Write("one/second.gguf");
  ExpectRefused(folder_ / "one", kInvalid, "lora.gguf, second.gguf");
  Write("one/config.json");
  ExpectRefused(folder_ / "one", kInvalid, "lora.gguf, second.gguf");
  Write("converted/config.json");  // with the files of the model that it was converted from
  Write("converted/pytorch_model.bin");
  Write("converted/lora.gguf", Gguf("adapter", "llama"));
  ExpectRefused(folder_ / "converted", kUnimplemented, "lora.gguf");
}

TEST_F(ModelPathTest, AFolderWithAConfigButOneGgufFileForWeightsIsThatFile) {
  const std::string file = Contents(test::FixtureDir() / "llama_tiny" / "tied.F32.gguf");
  const fs::path alone = Write("alone/model.gguf", file);
  Write("alone/config.json");
  Write("alone/tokenizer.json");
  const auto described = DescribeModel({.name = "model", .path = alone.parent_path()});
  ASSERT_TRUE(described.ok()) << described.status();
  EXPECT_EQ(described->info.format, "gguf");
  const auto loaded = LoadModel({.name = "model", .path = alone.parent_path(), .threads = 1});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto direct = LoadModel({.name = "model", .path = alone, .threads = 1});
  ASSERT_TRUE(direct.ok()) << direct.status();
  EXPECT_EQ((*loaded)->info().fingerprint, (*direct)->info().fingerprint);
  // With safetensors next to it, the folder is the model.
  const fs::path tied = test::FixtureDir() / "llama_tiny" / "tied";
  const fs::path both = FolderWithWeights("both", Contents(tied / "model.safetensors"));
  Write("both/model.gguf", file);
  const auto folder = DescribeModel({.name = "model", .path = both});
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(folder->info.format, "safetensors");
}

TEST_F(ModelPathTest, AFolderOfASplitGgufModel) {
  Write("split/a-00002-of-00002.gguf", Gguf("model", ""));
  ExpectRefused(folder_ / "split", kInvalid, "not the first, a-00001-of-00002.gguf");
  Write("split/a-00001-of-00002.gguf", Gguf("adapter", "llama"));
  ExpectRefused(folder_ / "split", kUnimplemented, "a-00001-of-00002.gguf");  // the part is read
  Write("split/b-00001-of-00002.gguf");
  ExpectRefused(folder_ / "split", kInvalid, "holds several GGUF files");
}

}  // namespace
}  // namespace lectern
