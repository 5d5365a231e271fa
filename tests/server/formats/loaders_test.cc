// Valid files and the contents that the loaders return.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "server/formats/safetensors.h"
#include "server/model/decoder/decoder_tensors.h"
#include "tests/server/formats/model_files.h"

namespace lectern {
namespace {

using test::GgufParts;
using test::LlamaGguf;
using test::SafetensorsParts;
using test::TempFolder;
using ::testing::ElementsAre;

TEST(GgufTest, ReadsMetadataOfEveryType) {
  using test::Le;
  GgufParts parts;
  parts.Set("u8", Le<uint32_t>(0) + Le<uint8_t>(200));
  parts.Set("i8", Le<uint32_t>(1) + Le<int8_t>(-2));
  parts.Set("u16", Le<uint32_t>(2) + Le<uint16_t>(65535));
  parts.Set("i16", Le<uint32_t>(3) + Le<int16_t>(-300));
  parts.Set("u32", test::U32(4'000'000'000));
  parts.Set("i32", test::I32(-5));
  parts.Set("f32", test::F32(0.5f));
  parts.Set("bool", Le<uint32_t>(7) + Le<uint8_t>(1));
  parts.Set("text", test::Text("hello"));
  parts.Set("u64", test::U64(~0ull));
  parts.Set("i64", Le<uint32_t>(11) + Le<int64_t>(-1));
  parts.Set("f64", Le<uint32_t>(12) + Le<double>(0.1));
  parts.Set("ints", test::ArrayOf(0, 3, "\x01\xff\x02"));
  parts.Set("floats", test::ArrayOf(6, 1, Le(2.5f)));
  parts.Set("bools", test::ArrayOf(7, 2, std::string("\1\0", 2)));
  parts.Set("texts", test::ArrayOf(8, 2, test::GgufText("") + test::GgufText("xy")));
  for (const uint32_t version : {2u, 3u}) {
    parts.version = version;
    const TempFolder folder;
    const auto file = GgufFile::Open(folder.Write("a.gguf", parts.Encode()));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(*(*file)->GetInt("u8"), 200);
    EXPECT_EQ(*(*file)->GetInt("i8"), -2);
    EXPECT_EQ(*(*file)->GetInt("u16"), 65535);
    EXPECT_EQ(*(*file)->GetInt("i16"), -300);
    EXPECT_EQ(*(*file)->GetInt("u32"), 4'000'000'000);
    EXPECT_EQ(*(*file)->GetInt("i32"), -5);
    EXPECT_EQ(*(*file)->GetInt("i64"), -1);
    EXPECT_EQ(*(*file)->GetFloat("f32"), 0.5);
    EXPECT_EQ(*(*file)->GetFloat("f64"), 0.1);
    EXPECT_EQ(*(*file)->GetString("text"), "hello");
    const auto& metadata = (*file)->metadata();
    EXPECT_EQ(metadata.size(), 16u);
    EXPECT_EQ(std::get<bool>(metadata.at("bool").value), true);
    EXPECT_EQ(std::get<uint64_t>(metadata.at("u64").value), ~0ull);
    EXPECT_THAT(std::get<std::vector<int64_t>>(metadata.at("ints").value), ElementsAre(1, 255, 2));
    EXPECT_THAT(std::get<std::vector<double>>(metadata.at("floats").value), ElementsAre(2.5));
    EXPECT_THAT(std::get<std::vector<bool>>(metadata.at("bools").value), ElementsAre(true, false));
    EXPECT_THAT(std::get<std::vector<std::string>>(metadata.at("texts").value),
                ElementsAre("", "xy"));
    for (const char* key : {"absent", "text", "u64"}) {
      EXPECT_EQ((*file)->GetInt(key).status().code(), absl::StatusCode::kInvalidArgument) << key;
    }
    EXPECT_FALSE((*file)->GetFloat("u32").ok());
    EXPECT_FALSE((*file)->GetString("bool").ok());
    EXPECT_TRUE((*file)->Has("bool"));
    EXPECT_FALSE((*file)->Has("boo"));
  }
}

TEST(GgufTest, TensorsAreOutermostFirstAndViewTheirBytes) {
  const TempFolder folder;
  GgufParts parts = LlamaGguf();
  parts.alignment = 64;
  parts.Set("general.alignment", test::U32(64));
  const std::string bytes = parts.Encode();
  const auto file = GgufFile::Open(folder.Write("a.gguf", bytes));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->Names().size(), 11u);
  const TensorView* down = (*file)->Find("blk.0.ffn_down.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->name, "blk.0.ffn_down.weight");
  EXPECT_THAT(down->shape, ElementsAre(32, 64));
  EXPECT_EQ(down->type, TensorType::kQ8_0);
  EXPECT_EQ(down->bytes.size(), 64u * 34);
  uint64_t data_bytes;
  const size_t start = (parts.Header(&data_bytes).size() + 63) / 64 * 64;
  const TensorView* norm = (*file)->Find("blk.0.attn_norm.weight");
  EXPECT_EQ(norm->bytes, bytes.substr(start + 320, 128));  // after 272 bytes, padded to 64
  EXPECT_EQ((*file)->Find("blk.1.ffn_down.weight"), nullptr);
  (*file)->DontNeed(*norm);
  EXPECT_EQ(norm->bytes, bytes.substr(start + 320, 128));
}

TEST(GgufTest, MissingFileFolderAndPipe) {
  EXPECT_EQ(GgufFile::Open("/nonexistent.gguf").status().code(), absl::StatusCode::kNotFound);
  const TempFolder folder;
  EXPECT_EQ(GgufFile::Open(folder.path()).status().code(), absl::StatusCode::kInvalidArgument);
  const std::string pipe = folder.path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(GgufFile::Open(pipe).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SafetensorsTest, FileFolderAndIndex) {
  const TempFolder folder;
  EXPECT_EQ(OpenSafetensors(folder.path()).status().code(), absl::StatusCode::kNotFound);
  const std::string file = folder.Write("one.safetensors", SafetensorsParts().Encode());
  SafetensorsParts second;
  second.header = {{"c", {{"dtype", "F16"}, {"shape", {1}}, {"data_offsets", {0, 2}}}}};
  second.data = 2;
  folder.Write("two.safetensors", second.Encode());
  const std::string index = folder.Write(
      "model.safetensors.index.json",
      R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}})");
  for (const std::string& path : {file, index, folder.path(), folder.path() + "/"}) {
    const auto source = OpenSafetensors(path);
    ASSERT_TRUE(source.ok()) << source.status();
    const TensorView* a = (*source)->Find("a");
    ASSERT_NE(a, nullptr);
    EXPECT_THAT(a->shape, ElementsAre(2, 3));
    EXPECT_EQ(a->type, TensorType::kF32);
    EXPECT_EQ(a->bytes.size(), 24u);
    EXPECT_EQ((*source)->Find("b")->type, TensorType::kBF16);
    EXPECT_EQ((*source)->Names().size(), path == file ? 2u : 3u);
    for (const std::string_view name : (*source)->Names()) {
      (*source)->DontNeed(*(*source)->Find(name));
    }
  }
  folder.Write("model.safetensors", second.Encode());
  EXPECT_THAT((*OpenSafetensors(folder.path()))->Names(), ElementsAre("c"));
}

TEST(SafetensorsTest, OtherTypesAreLeftOutOnDemand) {
  const TempFolder folder;
  SafetensorsParts parts;
  parts.header["a"]["dtype"] = "I32";
  const std::string path = folder.Write("x.safetensors", parts.Encode());
  EXPECT_EQ(OpenSafetensors(path).status().code(), absl::StatusCode::kUnimplemented);
  const auto source = OpenSafetensors(path, /*ignore_other_types=*/true);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->Names(), ElementsAre("b"));
}

TEST(DecoderConfigTest, GgufAndJsonAgree) {
  const TempFolder folder;
  const auto file = GgufFile::Open(folder.Write("a.gguf", LlamaGguf().Encode()));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto gguf = ReadDecoderConfig(**file);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(gguf->name, "small");
  EXPECT_EQ(gguf->bos, -1);
  const auto json = ReadDecoderConfigJson(test::LlamaConfigJson().dump(), "config.json");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->bos, 1);
  for (const DecoderConfig& config : {*gguf, *json}) {
    EXPECT_EQ(config.hidden, 32);
    EXPECT_EQ(config.layers, 1);
    EXPECT_EQ(config.heads, 2);
    EXPECT_EQ(config.kv_heads, 1);
    EXPECT_EQ(config.head_dim, 16);
    EXPECT_EQ(config.intermediate, 64);
    EXPECT_EQ(config.vocab, 8);
    EXPECT_EQ(config.context_length, 128);
    EXPECT_FLOAT_EQ(config.rms_eps, 1e-5);
    EXPECT_EQ(config.rope_theta, 10000);
    EXPECT_TRUE(config.tied);
    EXPECT_EQ(config.eos, 2);
  }
}

TEST(DecoderConfigTest, OtherSpellingsOfTheSame) {
  nlohmann::json json = test::LlamaConfigJson();
  json.erase("rope_scaling");
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500000.0}};
  json["eos_token_id"] = {3};
  json["num_key_value_heads"] = nullptr;
  json["head_dim"] = 8;
  const auto config = ReadDecoderConfigJson(json.dump(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope_theta, 500000);
  EXPECT_EQ(config->eos, 3);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->head_dim, 8);
}

TEST(DecoderTensorsTest, FindsAllByName) {
  const TempFolder folder;
  const auto file = GgufFile::Open(folder.Write("a.gguf", LlamaGguf().Encode()));
  const auto config = ReadDecoderConfig(**file);
  const auto tensors = FindDecoderTensors(**file, *config, DecoderNaming::kGguf);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_TRUE(tensors->qk_interleaved);
  EXPECT_EQ(tensors->output, tensors->token_embedding);
  ASSERT_EQ(tensors->layers.size(), 1u);
  EXPECT_EQ(tensors->layers[0].down->name, "blk.0.ffn_down.weight");
  EXPECT_EQ(tensors->layers[0].attn_norm->name, "blk.0.attn_norm.weight");
  EXPECT_EQ(tensors->final_norm->name, "output_norm.weight");
}

TEST(DecoderTensorsTest, HalfSplitRows) {
  EXPECT_THAT(HalfSplitRows(2, 4, 4), ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(HalfSplitRows(1, 6, 6), ElementsAre(0, 2, 4, 1, 3, 5));
  // Channels that are not rotated stay.
  EXPECT_THAT(HalfSplitRows(2, 6, 4), ElementsAre(0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11));
}

}  // namespace
}  // namespace lectern
