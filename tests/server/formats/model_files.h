// Small model files made by tests: valid ones, taken apart so that a test can damage one piece.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/temporary_folder.h"

namespace lectern::test {

template <typename T>
std::string Le(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}
inline std::string GgufText(const std::string& text) { return Le<uint64_t>(text.size()) + text; }

// A metadata value: type number and payload.
inline std::string U32(uint32_t v) { return Le<uint32_t>(4) + Le(v); }
inline std::string I32(int32_t v) { return Le<uint32_t>(5) + Le(v); }
inline std::string F32(float v) { return Le<uint32_t>(6) + Le(v); }
inline std::string U64(uint64_t v) { return Le<uint32_t>(10) + Le(v); }
inline std::string Text(const std::string& v) { return Le<uint32_t>(8) + GgufText(v); }
inline std::string ArrayOf(uint32_t type, uint64_t count, const std::string& payload) {
  return Le<uint32_t>(9) + Le(type) + Le(count) + payload;
}

struct GgufTensorPart {
  std::string name;
  std::vector<uint64_t> dims;  // innermost first, as in the file
  uint32_t type = 0;
  uint64_t bytes = 0;
  std::optional<uint64_t> offset = {};  // instead of the next free one
  std::optional<uint32_t> dim_count = {};
  std::optional<uint64_t> name_length = {};
};

struct GgufParts {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count = {};
  std::optional<uint64_t> key_count = {};
  std::vector<std::pair<std::string, std::string>> keys;  // name, value
  std::vector<GgufTensorPart> tensors;
  uint64_t alignment = 32;
  int64_t cut = 0;  // bytes left out at the end

  void Set(const std::string& name, const std::string& value) {
    for (auto& [key, old] : keys) {
      if (key == name) {
        old = value;
        return;
      }
    }
    keys.emplace_back(name, value);
  }
  void Drop(const std::string& name) {
    std::erase_if(keys, [&](const auto& key) { return key.first == name; });
  }
  GgufTensorPart& Tensor(const std::string& name) {
    for (GgufTensorPart& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    return tensors.emplace_back(GgufTensorPart{.name = name, .dims = {32}, .bytes = 128});
  }

  // The header up to the end of the tensor entries; `data_bytes` is what follows when padded.
  std::string Header(uint64_t* data_bytes) const {
    std::string out = magic + Le(version) + Le<uint64_t>(tensor_count.value_or(tensors.size())) +
                      Le<uint64_t>(key_count.value_or(keys.size()));
    for (const auto& [name, value] : keys) out += GgufText(name) + value;
    uint64_t next = 0;
    for (const GgufTensorPart& t : tensors) {
      out += Le<uint64_t>(t.name_length.value_or(t.name.size())) + t.name;
      out += Le<uint32_t>(t.dim_count.value_or(t.dims.size()));
      for (const uint64_t dim : t.dims) out += Le(dim);
      out += Le(t.type) + Le<uint64_t>(t.offset.value_or(next));
      next += (t.bytes + alignment - 1) / alignment * alignment;
    }
    *data_bytes = next;
    return out;
  }

  std::string Encode() const {
    uint64_t data_bytes;
    std::string out = Header(&data_bytes);
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    for (uint64_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i * 7 % 61);
    out.resize(out.size() - cut);
    return out;
  }
};

// One layer: hidden 32, two query heads and one key-value head of 16, intermediate 64,
// vocabulary 8.
inline GgufParts LlamaGguf() {
  GgufParts parts;
  parts.keys = {{"general.architecture", Text("llama")},
                {"general.name", Text("small")},
                {"llama.block_count", U32(1)},
                {"llama.context_length", U32(128)},
                {"llama.embedding_length", U32(32)},
                {"llama.feed_forward_length", U32(64)},
                {"llama.attention.head_count", U32(2)},
                {"llama.attention.head_count_kv", U32(1)},
                {"llama.rope.dimension_count", U32(16)},
                {"llama.rope.freq_base", F32(10000)},
                {"llama.attention.layer_norm_rms_epsilon", F32(1e-5f)},
                {"llama.vocab_size", U32(8)},
                {"tokenizer.ggml.eos_token_id", U32(2)},
                {"tokenizer.chat_template", Text("{{ x }}")},
                {"tokenizer.ggml.token_type", ArrayOf(5, 2, Le<int32_t>(1) + Le<int32_t>(-3))},
                {"tokenizer.ggml.tokens", ArrayOf(8, 2, GgufText("a") + GgufText("bc"))}};
  parts.tensors = {{"token_embd.weight", {32, 8}, 8, 8 * 34},  // Q8_0
                   {"blk.0.attn_norm.weight", {32}, 0, 128},
                   {"blk.0.attn_q.weight", {32, 32}, 3, 32 * 20},        // Q4_1
                   {"blk.0.attn_k.weight", {32, 16}, 2, 16 * 18},        // Q4_0
                   {"blk.0.attn_v.weight", {32, 16}, 1, 16 * 64},        // F16
                   {"blk.0.attn_output.weight", {32, 32}, 30, 32 * 64},  // BF16
                   {"blk.0.ffn_norm.weight", {32}, 0, 128},
                   {"blk.0.ffn_gate.weight", {32, 64}, 8, 64 * 34},
                   {"blk.0.ffn_up.weight", {32, 64}, 8, 64 * 34},
                   {"blk.0.ffn_down.weight", {64, 32}, 8, 64 * 34},
                   {"output_norm.weight", {32}, 0, 128}};
  return parts;
}

// Safetensors: header length, header, `data` zero bytes.
struct SafetensorsParts {
  nlohmann::json header = nlohmann::json::parse(R"({
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}})");
  std::optional<std::string> text = {};  // instead of the header
  std::optional<uint64_t> length = {};   // instead of its size
  uint64_t data = 32;

  std::string Encode() const {
    const std::string json = text.value_or(header.dump());
    return Le<uint64_t>(length.value_or(json.size())) + json + std::string(data, '\0');
  }
};

inline nlohmann::json LlamaConfigJson() {
  return nlohmann::json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "attention_bias": false, "mlp_bias": false, "rope_scaling": null, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 8, "rope_theta": 10000.0,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "tie_word_embeddings": true})");
}

// A temporary folder that is removed at the end.
class TempFolder {
 public:
  std::string path(const std::string& name = "") const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& bytes) const {
    // A new file each time: file systems flush a file that is truncated and written again.
    std::filesystem::remove(folder_ / name);
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return path(name);
  }

 private:
  const TemporaryFolder owner_;
  const std::filesystem::path folder_ = owner_.path();
};

}  // namespace lectern::test
