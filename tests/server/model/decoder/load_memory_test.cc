// While a model loads, the process takes hardly more memory than the loaded model does, and that is
// what the model says it takes.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/allocator.h"
#include "server/model/loading/model_loader.h"
#include "tests/server/formats/model_files.h"
#include "tests/testing/golden.h"
#include "tests/testing/safetensors_file.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Numerics = ModelLoadOptions::Numerics;

// 125 million weights, so that what a process takes besides is small, in matrices that are a small
// part of the whole, as they are in models that people run.
constexpr int64_t kLayers = 32, kHidden = 512, kUnits = 1536, kVocabulary = 32000, kHeads = 8;

struct Matrix {
  std::string hugging_face;
  std::string gguf;
  int64_t rows;
  int64_t cols;
};

// The matrices of one layer.
const std::vector<Matrix>& Matrices() {
  static const auto* const matrices =
      new std::vector<Matrix>{{"self_attn.q_proj", "attn_q", kHidden, kHidden},
                              {"self_attn.k_proj", "attn_k", kHidden, kHidden},
                              {"self_attn.v_proj", "attn_v", kHidden, kHidden},
                              {"self_attn.o_proj", "attn_output", kHidden, kHidden},
                              {"mlp.gate_proj", "ffn_gate", kUnits, kHidden},
                              {"mlp.up_proj", "ffn_up", kUnits, kHidden},
                              {"mlp.down_proj", "ffn_down", kHidden, kUnits}};
  return *matrices;
}

// Random bytes, as often as they are needed.
std::string RandomBytes(size_t count) {
  static const std::string* const pool = [] {
    std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same for every run
    auto* bytes = new std::string(1 << 20, '\0');
    for (char& byte : *bytes) byte = static_cast<char>(random());
    return bytes;
  }();
  std::string bytes;
  while (bytes.size() < count) bytes.append(*pool, 0, count - bytes.size());
  return bytes;
}

// BF16 values from -0.03 to 0.03.
std::string RandomBf16(int64_t count) {
  std::string bytes = RandomBytes(2 * count);
  for (size_t i = 1; i < bytes.size(); i += 2) {
    bytes[i] = static_cast<char>(0x3c | (bytes[i] & 0x80));
  }
  return bytes;
}

std::string OnesF32(int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) bytes += Le(1.0f);
  return bytes;
}

// A tied model that holds its table twice, in three files.
int WriteFolder(const fs::path& folder) {
  const fs::path golden = GoldenDir() / "decoders" / "llama-plain";
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    fs::copy(golden / name, folder / name);
  }
  json config = json::parse(FileContents(golden / "config.json"));
  config.update({{"hidden_size", kHidden},
                 {"intermediate_size", kUnits},
                 {"num_hidden_layers", kLayers},
                 {"num_attention_heads", kHeads},
                 {"num_key_value_heads", kHeads},
                 {"head_dim", kHidden / kHeads},
                 {"vocab_size", kVocabulary},
                 {"tie_word_embeddings", true}});
  WriteFile(folder / "config.json", config.dump());
  constexpr int kShards = 3;
  json index;
  for (int shard = 0; shard < kShards; ++shard) {
    TensorMap tensors;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, bool is_vector) {
      tensors[name] = {{{"dtype", is_vector ? "F32" : "BF16"}, {"shape", shape}},
                       is_vector ? OnesF32(shape[0]) : RandomBf16(shape[0] * shape[1])};
    };
    if (shard == 0) add("model.embed_tokens.weight", {kVocabulary, kHidden}, false);
    if (shard == 1) add("model.norm.weight", {kHidden}, true);
    if (shard == 2) add("lm_head.weight", {kVocabulary, kHidden}, false);
    for (int64_t layer = shard; layer < kLayers; layer += kShards) {
      const std::string prefix = absl::StrCat("model.layers.", layer, ".");
      for (const Matrix& matrix : Matrices()) {
        add(prefix + matrix.hugging_face + ".weight", {matrix.rows, matrix.cols}, false);
      }
      add(prefix + "input_layernorm.weight", {kHidden}, true);
      add(prefix + "post_attention_layernorm.weight", {kHidden}, true);
    }
    const std::string file = absl::StrFormat("model-%05d-of-%05d.safetensors", shard + 1, kShards);
    for (const auto& [name, tensor] : tensors) index["weight_map"][name] = file;
    WriteTensors(folder / file, tensors);
  }
  WriteFile(folder / "model.safetensors.index.json", index.dump());
  return 0;
}

// Blocks of random codes, with scales of 2^-10.
std::string RandomBlocks(bool q6, int64_t values) {
  const size_t block_bytes = q6 ? 210 : 144;
  std::string bytes = RandomBytes(values / 256 * block_bytes);
  const std::string scale = Le<uint16_t>(0x1400);
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    bytes.replace(at + (q6 ? 208 : 0), 2, scale);
    if (!q6) bytes.replace(at + 2, 2, scale);
  }
  return bytes;
}

// The mixture of a Q4_K_M file: the value matrices, `down` and the output are Q6_K.
int WriteGguf(const fs::path& path) {
  constexpr uint32_t kF32Type = 0, kQ4K = 12, kQ6K = 14, kByteToken = 6;
  GgufParts parts;
  std::string tokens = GgufText("<unk>") + GgufText("<s>") + GgufText("</s>");
  std::string types = Le<int32_t>(2) + Le<int32_t>(3) + Le<int32_t>(3), scores;
  for (int byte = 0; byte < 256; ++byte) {
    tokens += GgufText(absl::StrFormat("<0x%02X>", byte));
    types += Le<int32_t>(kByteToken);
  }
  constexpr uint64_t kTokens = 3 + 256;
  for (uint64_t i = 0; i < kTokens; ++i) scores += Le(-1000.0f);
  parts.keys = {{"general.architecture", Text("llama")},
                {"llama.block_count", U32(kLayers)},
                {"llama.context_length", U32(512)},
                {"llama.embedding_length", U32(kHidden)},
                {"llama.feed_forward_length", U32(kUnits)},
                {"llama.attention.head_count", U32(kHeads)},
                {"llama.attention.head_count_kv", U32(kHeads)},
                {"llama.attention.layer_norm_rms_epsilon", F32(1e-5f)},
                {"llama.vocab_size", U32(kVocabulary)},
                {"tokenizer.ggml.model", Text("llama")},
                {"tokenizer.ggml.tokens", ArrayOf(8, kTokens, tokens)},
                {"tokenizer.ggml.scores", ArrayOf(6, kTokens, scores)},
                {"tokenizer.ggml.token_type", ArrayOf(5, kTokens, types)},
                {"tokenizer.ggml.bos_token_id", U32(1)},
                {"tokenizer.ggml.eos_token_id", U32(2)}};
  std::vector<std::function<std::string()>> data;
  const auto add_vector = [&](const std::string& name) {
    parts.tensors.push_back({name, {kHidden}, kF32Type, 4 * kHidden});
    data.emplace_back([] { return OnesF32(kHidden); });
  };
  const auto add_matrix = [&](const std::string& name, int64_t rows, int64_t cols, bool q6) {
    parts.tensors.push_back({name,
                             {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)},
                             q6 ? kQ6K : kQ4K,
                             static_cast<uint64_t>(rows * cols / 256 * (q6 ? 210 : 144))});
    data.emplace_back([=] { return RandomBlocks(q6, rows * cols); });
  };
  add_matrix("token_embd.weight", kVocabulary, kHidden, /*q6=*/false);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = absl::StrCat("blk.", layer, ".");
    add_vector(prefix + "attn_norm.weight");
    add_vector(prefix + "ffn_norm.weight");
    for (const Matrix& matrix : Matrices()) {
      const bool q6 = matrix.gguf == "attn_v" || matrix.gguf == "ffn_down";
      add_matrix(absl::StrCat(prefix, matrix.gguf, ".weight"), matrix.rows, matrix.cols, q6);
    }
  }
  add_vector("output_norm.weight");
  add_matrix("output.weight", kVocabulary, kHidden, /*q6=*/true);
  uint64_t data_bytes = 0;
  const std::string header = parts.Header(&data_bytes);
  std::ofstream file(path, std::ios::binary);
  const auto write_padded = [&](std::string bytes) {
    bytes.resize((bytes.size() + parts.alignment - 1) / parts.alignment * parts.alignment, '\0');
    file << bytes;
  };
  write_padded(header);
  for (const auto& tensor : data) write_padded(tensor());
  return file.flush() ? 0 : 1;
}

// Bytes of a line of /proc/self/status, e.g. "VmHWM:".
int64_t StatusBytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = 0;
  while (status >> word) {
    if (word == key && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Runs `work` in a child process. This process frees no memory that a child could reuse.
void RunInChild(const std::function<int()>& work) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(work());
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Returns an exit code that says what happened.
int LoadAndMeasure(const std::string& path, Numerics numerics) {
  ConfigureMalloc();                                            // as the server does
  std::ofstream("/proc/self/clear_refs") << "5" << std::flush;  // resets the peak
  const int64_t before = StatusBytes("VmRSS:"), anonymous_before = StatusBytes("RssAnon:");
  // More threads than the test needs, because each may have a piece in memory.
  const auto model = LoadModel({.name = "large", .path = path, .numerics = numerics, .threads = 8});
  const int64_t peak = StatusBytes("VmHWM:") - before;
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 2;
  }
  malloc_trim(0);
  const int64_t after = StatusBytes("VmRSS:") - before;
  const auto weights = static_cast<int64_t>((*model)->info().weight_bytes);
  std::fprintf(stderr, "%s: weights %.1f MB, peak %.1f MB, after loading %.1f MB\n",
               (*model)->info().numerics.c_str(), 1e-6 * static_cast<double>(weights),
               1e-6 * static_cast<double>(peak), 1e-6 * static_cast<double>(after));
  if (10 * peak > 11 * after) return 3;
  // LibTorch, which kF32 loads, takes memory, too.
  const int64_t held = StatusBytes("RssAnon:") - anonymous_before;
  if (numerics != Numerics::kF32 && 10 * held > 11 * weights) return 4;
  return 10 * held >= 9 * weights ? 0 : 5;
}

class LoadMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers hold freed memory back";
#endif
    LECTERN_REQUIRE_FILE(fs::exists(GoldenDir() / "decoders"), GoldenDir().string());
  }

  const TemporaryFolder folder_;
};

TEST_F(LoadMemoryTest, AFolderOfSeveralFilesPeaksBelowElevenTenthsOfWhatStays) {
  RunInChild([&] { return WriteFolder(folder_.path()); });
  for (const Numerics numerics : {Numerics::kInt8Rotated, Numerics::kF32}) {
    RunInChild([&] { return LoadAndMeasure(folder_.path(), numerics); });
  }
}

TEST_F(LoadMemoryTest, AGgufFilePeaksBelowElevenTenthsOfWhatStays) {
  const std::string path = folder_.path() + "/large.gguf";
  RunInChild([&] { return WriteGguf(path); });
  for (const Numerics numerics : {Numerics::kInt8Rotated, Numerics::kBlocks}) {
    RunInChild([&] { return LoadAndMeasure(path, numerics); });
  }
}

}  // namespace
}  // namespace lectern::test
