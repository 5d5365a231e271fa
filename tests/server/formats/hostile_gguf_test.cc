// GGUF files damaged in one place each: Open, ReadDecoderConfig, FindDecoderTensors and Dequantize
// must refuse them by name, in little memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>

#include "server/formats/format_limits.h"
#include "server/model/decoder/decoder_tensors.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"
#include "tests/server/formats/read_whole_gguf.h"

namespace lectern {
namespace {

using test::ArrayOf;
using test::F32;
using test::GgufParts;
using test::GgufText;
using test::I32;
using test::Le;
using test::LlamaGguf;
using test::TempFolder;
using test::Text;
using test::U32;
using test::U64;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

struct Hostile {
  const char* what;
  std::function<void(GgufParts&)> damage;
  const char* named;  // key or tensor in the message
  const char* why;
  absl::StatusCode code = kInvalid;
};

void ExpectAllRefused(const std::vector<Hostile>& table) {
  const TempFolder folder;
  ASSERT_TRUE(test::ReadWholeGguf(folder.Write("good.gguf", LlamaGguf().Encode())).ok());
  for (const Hostile& one : table) {
    SCOPED_TRACE(one.what);
    GgufParts parts = LlamaGguf();
    one.damage(parts);
    const std::string path = folder.Write("bad.gguf", parts.Encode());
    test::ExpectRefused(test::ReadWholeGguf(path), one.code, path, one.named, one.why);
  }
}

Hostile Key(const char* name, const std::string& value, const char* why,
            absl::StatusCode code = kInvalid) {
  return {name, [=](GgufParts& p) { p.Set(name, value); }, name, why, code};
}

Hostile Tensor(const char* name, std::function<void(test::GgufTensorPart&)> damage, const char* why,
               absl::StatusCode code = kInvalid) {
  return {name, [=](GgufParts& p) { damage(p.Tensor(name)); }, name, why, code};
}

Hostile Missing(const char* key) {
  return {key, [=](GgufParts& p) { p.Drop(key); }, key, "is missing"};
}

TEST(HostileGgufTest, Header) {
  ExpectAllRefused({
      {"magic", [](GgufParts& p) { p.magic = "GGML"; }, "", "not a GGUF file"},
      {"pickle", [](GgufParts& p) { p.magic = "\x80\x02}q"; }, "", "not a GGUF file"},
      {"version 0", [](GgufParts& p) { p.version = 0; }, "", "version 0"},
      {"version 1", [](GgufParts& p) { p.version = 1; }, "", "version 1"},
      {"version 4", [](GgufParts& p) { p.version = 4; }, "", "version 4"},
      {"big endian", [](GgufParts& p) { p.version = 3u << 24; }, "", "version 50331648"},
      {"tensors", [](GgufParts& p) { p.tensor_count = kMaxGgufTensors + 1; }, "", "tensors"},
      {"2^64-1 tensors", [](GgufParts& p) { p.tensor_count = kMax; }, "", "tensors; at most"},
      {"keys", [](GgufParts& p) { p.key_count = kMaxGgufKeys + 1; }, "", "metadata keys"},
      {"2^64-1 keys", [](GgufParts& p) { p.key_count = kMax; }, "", "metadata keys; at most"},
      {"2^63 keys", [](GgufParts& p) { p.key_count = 1ull << 63; }, "", "metadata keys; at most"},
      {"one key too many", [](GgufParts& p) { p.key_count = p.keys.size() + 1; }, "", ""},
      {"one key too few", [](GgufParts& p) { p.key_count = p.keys.size() - 1; }, "", ""},
      {"one tensor too many", [](GgufParts& p) { p.tensor_count = 12; }, "tensor '#11'", "name of"},
      {"65536 tensors", [](GgufParts& p) { p.tensor_count = 65536; }, "tensor '#11'", ""},
  });
}

TEST(HostileGgufTest, Metadata) {
  const std::string long_name(kMaxGgufKeyBytes + 1, 'k');
  ExpectAllRefused({
      {"key twice", [](GgufParts& p) { p.keys.push_back(p.keys[3]); }, "llama.context_length",
       "occurs twice"},
      {"empty key", [](GgufParts& p) { p.keys.emplace_back("", U32(1)); }, "key '#16'", "0 bytes"},
      {"long key", [&](GgufParts& p) { p.keys.emplace_back(long_name, U32(1)); }, "key '#16'",
       "65536 bytes"},
      Key("x", Le<uint32_t>(13), "value type 13 does not exist"),
      Key("x", Le<uint32_t>(~0u), "value type 4294967295 does not exist"),
      Key("x", Le<uint32_t>(7) + Le<uint8_t>(2), "boolean of value 2"),
      Key("x", Le<uint32_t>(8) + Le<uint64_t>(kMaxGgufStringBytes + 1), "string of 16777217"),
      Key("x", Le<uint32_t>(8) + Le(kMax), "string of 18446744073709551615"),
      Key("x", Le<uint32_t>(8) + Le<uint64_t>(1 << 20), "file ends"),
      Key("x", ArrayOf(4, kMax, ""), "array of 18446744073709551615"),
      Key("x", ArrayOf(4, 1ull << 63, ""), "array of 9223372036854775808"),
      Key("x", ArrayOf(10, (1ull << 61) + 1, ""), "array of"),
      Key("x", ArrayOf(4, kMaxGgufArrayElements + 1, ""), "array of 16777217"),
      Key("x", ArrayOf(0, kMaxGgufArrayElements, ""), "bytes are left"),
      Key("x", ArrayOf(8, kMaxGgufArrayElements, ""), "bytes are left"),
      Key("x", ArrayOf(12, kMaxGgufArrayElements, ""), "bytes are left"),
      Key("x", ArrayOf(7, kMaxGgufArrayElements, ""), "bytes are left"),
      Key("x", ArrayOf(9, 1, ArrayOf(4, 1, Le(1))), "arrays of arrays"),
      Key("x", ArrayOf(13, 1, Le(1)), "array element type 13"),
      Key("x", ArrayOf(99, 0, ""), "array element type 99"),
      Key("x", ArrayOf(7, 1, "\5"), "boolean of value 5"),
      Key("x", ArrayOf(8, 1, Le(kMax)), "string of"),
      Key("x", ArrayOf(10, 1, Le(kMax)), "above 2^63"),
      Key("general.alignment", U32(0), "power of two"),
      Key("general.alignment", U32(1), "power of two"),
      Key("general.alignment", U32(48), "power of two"),
      Key("general.alignment", U32(8192), "power of two"),
      Key("general.alignment", U64(1ull << 63), "power of two"),
      Key("general.alignment", I32(32), "not an unsigned integer"),
      Key("general.alignment", Text("32"), "not an unsigned integer"),
  });
}

TEST(HostileGgufTest, Tensors) {
  using Part = test::GgufTensorPart;
  const char* q = "blk.0.attn_q.weight";
  const char* norm = "output_norm.weight";
  ExpectAllRefused({
      {"name twice", [=](GgufParts& p) { p.Tensor(q).name = norm; }, norm, "occurs twice"},
      {"empty name", [=](GgufParts& p) { p.Tensor(q).name = ""; }, "tensor '#2'", "0 bytes"},
      {"long name", [=](GgufParts& p) { p.Tensor(q).name = std::string(65, 'q'); }, "tensor '#2'",
       "65 bytes"},
      {"name length", [=](GgufParts& p) { p.Tensor(q).name_length = kMax; }, "tensor '#2'", "name"},
      Tensor(
          q, [](Part& t) { t.dim_count = 0; }, "0 dimensions"),
      Tensor(
          q, [](Part& t) { t.dim_count = 5; }, "5 dimensions"),
      Tensor(
          q, [](Part& t) { t.dim_count = ~0u; }, "4294967295 dimensions"),
      Tensor(
          q, [](Part& t) { t.dims[0] = 0; }, "size 0"),
      Tensor(
          q, [](Part& t) { t.dims[1] = 0; }, "size 0"),
      Tensor(
          q, [](Part& t) { t.dims[1] = kMax; }, "size 18446744073709551615"),
      Tensor(
          q, [](Part& t) { t.dims[1] = 1ull << 63; }, "size 9223372036854775808"),
      Tensor(
          q,
          [](Part& t) {
            t.dims = {1ull << 32, 1ull << 32};
          },
          "63 bits"),
      // The number of values fits, the number of bytes wraps to nothing.
      Tensor(
          norm,
          [](Part& t) {
            t.dims = {1ull << 30, 1ull << 32};
          },
          "63 bits"),
      Tensor(
          norm, [](Part& t) { t.dims = {1ull << 62}; }, "63 bits"),
      Tensor(
          q,
          [](Part& t) {
            t.dims = {32, (1ull << 59) + 1};
          },
          "63 bits"),
      Tensor(
          q,
          [](Part& t) {
            t.dims = {1ull << 20, 1ull << 20, 1 << 20, 1 << 20};
          },
          "63 bits"),
      Tensor(
          q,
          [](Part& t) {
            t.dims = {32, (1ull << 42) + 1};
          },
          "pass the end of the file"),
      Tensor(
          q, [](Part& t) { t.dims[0] = 33; }, "not whole blocks of 32"),
      Tensor(
          q, [](Part& t) { t.dims[0] = 1; }, "not whole blocks of 32"),
      Tensor(
          q, [](Part& t) { t.type = 12; }, "not whole blocks of 256"),
      Tensor(
          q, [](Part& t) { t.type = 16; }, "type 16 (IQ2_XXS) is not supported; F32, F16"),
      Tensor(
          q, [](Part& t) { t.type = 4; }, "type 4 (unknown)"),
      Tensor(
          q, [](Part& t) { t.type = 26; }, "type 26 (I32)"),
      Tensor(
          q, [](Part& t) { t.type = ~0u; }, "type 4294967295 (unknown)"),
      Tensor(
          q, [](Part& t) { t.offset = 1; }, "not a multiple of 32"),
      Tensor(
          q, [](Part& t) { t.offset = kMax; }, "not a multiple of 32"),
      Tensor(
          q, [](Part& t) { t.offset = kMax - 31; }, "pass the end of the file"),
      Tensor(
          q, [](Part& t) { t.offset = 1ull << 63; }, "pass the end of the file"),
      Tensor(
          q, [](Part& t) { t.offset = 1 << 20; }, "pass the end of the file"),
      {"same place", [=](GgufParts& p) { p.Tensor(q).offset = 0; }, "", "overlaps tensor '"},
      {"inside another", [=](GgufParts& p) { p.Tensor(norm).offset = 64; }, norm, "overlaps"},
      {"short", [](GgufParts& p) { p.cut = 1; }, norm, "pass the end of the file"},
      {"no data", [](GgufParts& p) { p.cut = 10816; }, "", "pass the end of the file"},
      {"escapes",
       [=](GgufParts& p) {
         p.Tensor(q).name = "a\n\x1b[2J";
         p.Tensor(p.tensors[2].name).type = 77;
       },
       "a\\n\\x1b[2J", "type 77"},
      {"missing q",
       [=](GgufParts& p) { std::erase_if(p.tensors, [&](auto& t) { return t.name == q; }); }, q,
       "is missing; expected with shape [32, 32]"},
      {"q of other shape",
       [=](GgufParts& p) {
         p.Tensor(q).dims = {32, 16};
       },
       q, "has shape [16, 32] instead of [32, 32]"},
      {"one-dimensional q", [=](GgufParts& p) { p.Tensor(q).dims = {1024}; }, q,
       "has shape [1024]"},
      {"k of other shape",
       [](GgufParts& p) {
         p.Tensor("blk.0.attn_k.weight").dims = {32, 8};
       },
       "blk.0.attn_k.weight", "instead of [16, 32]"},
      {"wide embedding",
       [](GgufParts& p) {
         p.Tensor("token_embd.weight").dims = {64, 4};
       },
       "token_embd.weight", "has shape [4, 64] instead of [4, 32]"},
      {"small output", [](GgufParts& p) { p.Tensor("output.weight"); }, "output.weight",
       "instead of [8, 32]"},
      {"bias of queries alone", [](GgufParts& p) { p.Tensor("blk.0.attn_q.bias"); },
       "blk.0.attn_k.bias", "is missing"},
      {"bias of a norm", [](GgufParts& p) { p.Tensor("blk.0.attn_norm.bias"); },
       "blk.0.attn_norm.bias", "not part of a llama model", kUnsupported},
      {"RoPE factors", [](GgufParts& p) { p.Tensor("rope_freqs.weight"); }, "llama.rope.scaling",
       "rope_freqs.weight has 32 values, not 8"},
      {"more layers than told", [](GgufParts& p) { p.Tensor("blk.1.attn_norm.weight"); },
       "blk.1.attn_norm.weight", "not part of a llama model", kUnsupported},
  });
}

TEST(HostileGgufTest, DecoderConfig) {
  ExpectAllRefused({
      Missing("general.architecture"),
      Missing("llama.block_count"),
      Missing("llama.context_length"),
      Missing("llama.embedding_length"),
      Missing("llama.feed_forward_length"),
      Missing("llama.attention.head_count"),
      Missing("llama.attention.layer_norm_rms_epsilon"),
      Key("general.architecture", Text("mixtral"),
          "'mixtral' is not supported; supported are gemma2, gemma3, granite, llama, olmo2",
          kUnsupported),
      Key("general.architecture", U32(1), "is not a string"),
      Key("llama.block_count", U32(0), "0 is not from 1 to 1024"),
      Key("llama.block_count", U32(1025), "1025 is not from 1 to 1024"),
      Key("llama.block_count", I32(-1), "-1 is not from 1 to 1024"),
      Key("llama.block_count", U64(kMax), "is not below 2^63"),
      Key("llama.block_count", F32(1), "is not an integer"),
      Key("llama.context_length", U32(~0u), "is not from 1 to"),
      Key("llama.embedding_length", U32(0), "0 is not from 1 to"),
      Key("llama.embedding_length", U64(1ull << 62), "is not from 1 to"),
      Key("llama.feed_forward_length", U32(0), "0 is not from 1 to"),
      Key("llama.feed_forward_length", ArrayOf(4, 0, ""), "is not an integer"),
      Key("llama.feed_forward_length", ArrayOf(4, 2, Le(64) + Le(32)), "differs between layers",
          kUnsupported),
      Key("llama.attention.head_count", U32(0), "0 is not from 1 to"),
      Key("llama.attention.head_count", I32(-4), "-4 is not from 1 to"),
      Key("llama.attention.head_count_kv", U32(0), "0 is not from 1 to 2"),
      Key("llama.attention.head_count_kv", U32(3), "3 is not from 1 to 2"),
      {"heads % kv_heads",
       [](GgufParts& p) {
         p.Set("llama.attention.head_count", U32(8));
         p.Set("llama.attention.head_count_kv", U32(3));
       },
       "llama.attention.head_count_kv", "8 heads are not a multiple of 3"},
      Key("llama.attention.key_length", U32(15), "head size 15 is odd"),
      Key("llama.attention.key_length", U32(1 << 20), "is not from 1 to"),
      Key("llama.attention.value_length", U32(8), "differs from the head size", kUnsupported),
      Key("llama.rope.dimension_count", U32(8), "differs from the head size", kUnsupported),
      Key("llama.rope.scaling.type", Text("dynamic"), "'dynamic' is not supported", kUnsupported),
      Key("llama.rope.scaling.type", Text("longrope"), "short_factor has 0 values, not 8"),
      Key("llama.rope.scaling.factor", F32(-2), "factor -2 is out of range"),
      Key("llama.rope.scaling.factor", U32(2), "is not a floating-point number"),
      Key("llama.rope.scaling.attn_factor", F32(2), "2 is not supported without", kUnsupported),
      Key("llama.rope.scale_linear", F32(std::nanf("")), "factor nan is out of range"),
      Key("llama.attention.scale", F32(2), "2 is not supported", kUnsupported),
      Key("llama.logit_scale", F32(2), "2 is not supported", kUnsupported),
      Key("llama.attention.sliding_window_pattern", I32(-1), "-1 is negative"),
      Key("llama.attention.sliding_window_pattern", ArrayOf(7, 2, std::string(2, '\1')),
          "has 2 values for 1 layers"),
      Key("llama.expert_count", U32(8), "8 is not supported", kUnsupported),
      Key("llama.attention.sliding_window", I32(-3), "-3 is not a number of tokens"),
      Key("llama.rope.freq_base", F32(0), "0 is not above 1"),
      Key("llama.rope.freq_base", F32(std::numeric_limits<float>::quiet_NaN()), "nan"),
      Key("llama.rope.freq_base", F32(std::numeric_limits<float>::infinity()), "inf"),
      Key("llama.attention.layer_norm_rms_epsilon", F32(-1), "-1 is not above 0"),
      Key("llama.attention.layer_norm_rms_epsilon", F32(std::nanf("")), "nan"),
      Key("tokenizer.ggml.eos_token_id", U32(8), "outside the vocabulary of 8"),
      Key("tokenizer.ggml.eos_token_id", U32(~0u), "not a token id"),
      Key("tokenizer.ggml.bos_token_id", I32(-2), "not a token id"),
      Key("general.name", F32(1), "is not a string"),
  });
}

TEST(HostileGgufTest, CutAtEveryByte) {
  const TempFolder folder;
  uint64_t data_bytes;
  const GgufParts parts = LlamaGguf();
  const std::string bytes = parts.Encode();
  const size_t header = parts.Header(&data_bytes).size();
  for (size_t size = 0; size < bytes.size(); size += size < header + 64 ? 1 : 97) {
    const std::string path = folder.Write("cut.gguf", bytes.substr(0, size));
    const absl::Status status = test::ReadWholeGguf(path);
    test::ExpectRefused(status, kInvalid, path, "", "");
    if (HasFailure()) FAIL() << "cut at " << size;
  }
}

TEST(HostileGgufTest, RandomDamage) {
  const TempFolder folder;
  uint64_t data_bytes;
  const std::string bytes = LlamaGguf().Encode();
  const size_t header = LlamaGguf().Header(&data_bytes).size();
  std::mt19937 random(20240601);
  const int64_t before = test::PeakMemoryKib();
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string path = folder.Write("flip.gguf", test::Damage(bytes, random, header));
    const absl::Status status = test::ReadWholeGguf(path);
    ASSERT_TRUE(test::IsOkOrRefused(status)) << "iteration " << i << ": " << status;
    refused += !status.ok();
  }
  EXPECT_GT(refused, 1500);  // the rest changed names and values that are free
  test::ExpectLittleMemory(before, 64 << 10);
}

// Little address space, so that memory that is asked for but never touched shows as well.
// Sanitizers reserve address space themselves.
void LimitAddressSpace() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const rlimit limit = {256 << 20, 256 << 20};
  setrlimit(RLIMIT_AS, &limit);
#endif
}

TEST(HostileGgufTest, AbsurdCountsTakeNoMemory) {
  const TempFolder folder;
  std::vector<std::string> paths;
  for (uint32_t type = 0; type < 13; ++type) {
    for (const uint64_t count : {uint64_t{kMaxGgufArrayElements}, uint64_t{1} << 31, kMax}) {
      GgufParts parts = LlamaGguf();
      parts.Set("x", ArrayOf(type, count, std::string(64, '\0')));
      paths.push_back(folder.Write(std::to_string(paths.size()), parts.Encode()));
    }
  }
  GgufParts counts = LlamaGguf();
  counts.tensor_count = kMaxGgufTensors;
  paths.push_back(folder.Write("tensors", counts.Encode()));
  const int64_t before = test::PeakMemoryKib();
  const auto open_all_and_exit = [&] {
    LimitAddressSpace();
    for (const std::string& path : paths) {
      if (GgufFile::Open(path).status().code() != kInvalid) _exit(1);
    }
    _exit(0);
  };
  EXPECT_EXIT(open_all_and_exit(), testing::ExitedWithCode(0), "");
  for (const std::string& path : paths) EXPECT_FALSE(GgufFile::Open(path).ok());
  test::ExpectLittleMemory(before, 16 << 10);
}

}  // namespace
}  // namespace lectern
