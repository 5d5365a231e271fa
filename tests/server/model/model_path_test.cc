// Mistakes that people make with model files: each is named for what it is, with what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "server/model/loading/model_loader.h"

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

  // A GGUF file with two metadata strings and no tensors.
  static std::string Gguf(const std::string& type, const std::string& architecture) {
    std::string file("GGUF\3\0\0\0", 8);
    const auto number = [&file](uint64_t value, int bytes) {
      for (int i = 0; i < bytes; ++i) file.push_back(static_cast<char>(value >> (8 * i)));
    };
    const auto text = [&](const std::string& value) {
      number(value.size(), 8);
      file += value;
    };
    number(0, 8);
    number(2, 8);
    text("general.type");
    number(8, 4);
    text(type);
    text("general.architecture");
    number(8, 4);
    text(architecture);
    return file;
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
  Write("lfs/config.json");
  Write("lfs/model.safetensors", kPointer);
  ExpectRefused(folder_ / "lfs", kInvalid, "Git LFS pointer");
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
}

}  // namespace
}  // namespace lectern
