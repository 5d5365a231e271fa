// Safetensors files and indices damaged in one place each.
#include <gtest/gtest.h>

#include <functional>

#include "server/formats/format_limits.h"
#include "server/formats/safetensors.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"

namespace lectern {
namespace {

using nlohmann::json;
using test::SafetensorsParts;
using test::TempFolder;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr char kIndexName[] = "model.safetensors.index.json";

struct Hostile {
  const char* what;
  std::function<void(SafetensorsParts&)> damage;
  const char* named;
  const char* why;
};

// Sets one member of tensor b's entry.
Hostile Member(const char* member, const char* value, const char* why) {
  return {value, [=](SafetensorsParts& p) { p.header["b"][member] = json::parse(value); },
          "tensor 'b'", why};
}

Hostile HeaderText(const char* text, const char* why) {
  return {text, [=](SafetensorsParts& p) { p.text = text; }, "", why};
}

TEST(HostileSafetensorsTest, Files) {
  const std::string deep = std::string(100000, '[');
  const std::string deep_member = R"({"a":)" + deep;
  std::string values = R"({"a":[0)";
  for (size_t i = 0; i < kMaxJsonValues; ++i) values += ",0";
  const std::vector<Hostile> table = {
      {"empty header", [](SafetensorsParts& p) { p.text = ""; }, "", "begin with {"},
      {"length 2^64-1", [](SafetensorsParts& p) { p.length = ~0ull; }, "", "at most 16777216"},
      {"length 2^63", [](SafetensorsParts& p) { p.length = 1ull << 63; }, "", "at most"},
      {"length over the limit",
       [](SafetensorsParts& p) { p.length = kMaxSafetensorsHeaderBytes + 1; }, "", "at most"},
      {"length over the file", [](SafetensorsParts& p) { p.length = 4096; }, "", "file holds"},
      {"length one short", [](SafetensorsParts& p) { p.length = p.header.dump().size() - 1; }, "",
       "malformed"},
      {"length one long", [](SafetensorsParts& p) { p.length = p.header.dump().size() + 1; }, "",
       "malformed"},
      HeaderText("[]", "begin with {"),
      HeaderText(" {}", "begin with {"),
      HeaderText("null", "begin with {"),
      HeaderText("{", "malformed"),
      HeaderText("{}}", "malformed"),
      HeaderText("{\"a\":\"\xff\"}", "malformed"),
      HeaderText("{\"a\":1e999}", "malformed"),
      HeaderText("{}", "32 bytes after the last tensor"),
      {"deep", [&](SafetensorsParts& p) { p.text = deep_member; }, "", "nested deeper than 8"},
      {"many values", [&](SafetensorsParts& p) { p.text = values; }, "",
       "more than 4194304 values"},
      HeaderText(R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},
                     "a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})",
                 "key 'a' occurs twice"),
      HeaderText(R"({"a":{"dtype":"F32","dtype":"F32","shape":[8],"data_offsets":[0,32]}})",
                 "key 'dtype' occurs twice"),
      {"metadata list", [](SafetensorsParts& p) { p.header["__metadata__"] = json::array(); },
       "__metadata__", "not an object"},
      {"metadata number", [](SafetensorsParts& p) { p.header["__metadata__"]["x"] = 1; },
       "__metadata__", "not a string"},
      {"entry is a number", [](SafetensorsParts& p) { p.header["b"] = 1; }, "tensor 'b'",
       "not an object of"},
      {"no shape", [](SafetensorsParts& p) { p.header["b"].erase("shape"); }, "tensor 'b'",
       "not an object of"},
      {"more members", [](SafetensorsParts& p) { p.header["b"]["x"] = 1; }, "tensor 'b'",
       "not an object of"},
      Member("dtype", "\"F31\"", "dtype \\\"F31\\\" does not exist"),
      Member("dtype", "7", "dtype 7 does not exist"),
      Member("dtype", "\"F64\"", "data_offsets span 8 bytes, dtype and shape take 32"),
      Member("shape", "4", "not an array"),
      Member("shape", "[1,1,1,1,4]", "at most 4"),
      Member("shape", "[-4]", "no positive integer"),
      Member("shape", "[0]", "no positive integer"),
      Member("shape", "[4.0]", "no positive integer"),
      Member("shape", "[\"4\"]", "no positive integer"),
      Member("shape", "[9223372036854775808]", "no positive integer"),
      Member("shape", "[18446744073709551616]", "no positive integer"),
      Member("shape", "[4294967296, 4294967296]", "63 bits"),
      Member("shape", "[4611686018427387904, 4]", "63 bits"),
      Member("shape", "[5]", "dtype and shape take 10"),
      Member("shape", "[]", "dtype and shape take 2"),
      Member("data_offsets", "[24]", "not a pair"),
      Member("data_offsets", "[24, 32, 40]", "not a pair"),
      Member("data_offsets", "[-8, 0]", "not a pair"),
      Member("data_offsets", "[24, 32.0]", "not a pair"),
      Member("data_offsets", "{}", "not a pair"),
      Member("data_offsets", "[32, 24]", "end before they begin"),
      Member("data_offsets", "[18446744073709551608, 18446744073709551615]", "span 7"),
      Member("data_offsets", "[18446744073709551600, 18446744073709551608]", "leaves a hole"),
      Member("data_offsets", "[25, 33]", "leaves a hole"),
      Member("data_offsets", "[16, 24]", "overlaps"),
      {"same place", [](SafetensorsParts& p) { p.header["c"] = p.header["b"]; }, "", "overlaps"},
      {"data too short", [](SafetensorsParts& p) { p.data = 31; }, "tensor 'b'", "end at 32 of 31"},
      {"no data", [](SafetensorsParts& p) { p.data = 0; }, "tensor 'a'", "end at 24 of 0"},
      {"data too long", [](SafetensorsParts& p) { p.data = 33; }, "", "1 bytes after"},
  };
  const TempFolder folder;
  for (const Hostile& one : table) {
    SCOPED_TRACE(one.what);
    SafetensorsParts parts;
    one.damage(parts);
    const std::string path = folder.Write("bad.safetensors", parts.Encode());
    test::ExpectRefused(OpenSafetensors(path).status(), kInvalid, path, one.named, one.why);
  }
}

// The file is valid, but no model of the server computes with such tensors.
TEST(HostileSafetensorsTest, ATypeThatIsNotSupported) {
  const TempFolder folder;
  SafetensorsParts parts;
  Member("dtype", "\"I16\"", "").damage(parts);
  const std::string path = folder.Write("bad.safetensors", parts.Encode());
  test::ExpectRefused(OpenSafetensors(path).status(), absl::StatusCode::kUnimplemented, path,
                      "tensor 'b'", "F32, F16 and BF16 are");
}

TEST(HostileSafetensorsTest, TooManyTensors) {
  std::string text = "{";
  for (uint64_t i = 0; i <= kMaxSafetensorsTensors; ++i) {
    text += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[1],)" +
            R"("data_offsets":[)" + std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  SafetensorsParts parts;
  parts.text = text + "}";
  parts.data = kMaxSafetensorsTensors + 1;
  const TempFolder folder;
  const std::string path = folder.Write("many.safetensors", parts.Encode());
  test::ExpectRefused(OpenSafetensors(path, true).status(), kInvalid, path, "",
                      "more than 65536 tensors");
}

TEST(HostileSafetensorsTest, Indices) {
  struct Case {
    const char* index;
    const char* file;  // that the message names
    const char* named;
    const char* why;
  };
  const Case table[] = {
      {"", kIndexName, "", "malformed"},
      {"[]", kIndexName, "", "not an object"},
      {"{}", kIndexName, "weight_map", "is missing"},
      {R"({"weight_map": []})", kIndexName, "weight_map", "not an object"},
      {R"({"weight_map": {}})", kIndexName, "weight_map", "not an object of 1"},
      {R"({"weight_map": {"a": 1}})", kIndexName, "tensor 'a'", "not a string"},
      {R"({"weight_map": {"a": ""}})", kIndexName, "tensor 'a'", "file of the folder"},
      {R"({"weight_map": {"a": "../x.safetensors"}})", kIndexName, "../x", "file of the folder"},
      {R"({"weight_map": {"a": "/etc/x.safetensors"}})", kIndexName, "/etc", "file of the folder"},
      {R"({"weight_map": {"a": "s/x.safetensors"}})", kIndexName, "s/x", "file of the folder"},
      {R"({"weight_map": {"a": "s\\x.safetensors"}})", kIndexName, "tensor 'a'",
       "file of the folder"},
      {R"({"weight_map": {"a": "x\u0000.safetensors"}})", kIndexName, "x\\x00",
       "file of the folder"},
      {R"({"weight_map": {"a": ".safetensors"}})", kIndexName, "tensor 'a'", "file of the folder"},
      {R"({"weight_map": {"a": "x.bin"}})", kIndexName, "x.bin", "file of the folder"},
      {R"({"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}})", kIndexName, "key 'a'",
       "occurs twice"},
      {R"({"weight_map": {"a": "x.safetensors"}})", "x.safetensors", "tensor 'b'",
       "not in the index"},
      {R"({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})", "x.safetensors",
       "tensor 'b'", "not in the index as of this shard"},
      {R"({"weight_map": {"a": "x.safetensors", "b": "x.safetensors", "c": "x.safetensors"}})",
       kIndexName, "shard 'x.safetensors'", "holds 2 of the 3"},
  };
  for (const Case& one : table) {
    SCOPED_TRACE(one.index);
    const TempFolder folder;
    folder.Write("x.safetensors", SafetensorsParts().Encode());
    folder.Write(kIndexName, one.index);
    test::ExpectRefused(OpenSafetensors(folder.path()).status(), kInvalid, folder.path(one.file),
                        one.named, one.why);
  }
}

TEST(HostileSafetensorsTest, MissingShardAndTooManyShards) {
  const TempFolder folder;
  folder.Write(kIndexName, R"({"weight_map": {"a": "gone.safetensors"}})");
  const absl::Status status = OpenSafetensors(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("gone.safetensors"), absl::string_view::npos) << status;
  json index;
  for (size_t i = 0; i <= kMaxSafetensorsShards; ++i) {
    index["weight_map"][std::to_string(i)] = std::to_string(i) + ".safetensors";
  }
  const std::string path = folder.Write(kIndexName, index.dump());
  test::ExpectRefused(OpenSafetensors(path).status(), kInvalid, path, "", "1025 shards");
}

TEST(HostileSafetensorsTest, CutAtEveryByte) {
  const TempFolder folder;
  const std::string bytes = SafetensorsParts().Encode();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string path = folder.Write("cut.safetensors", bytes.substr(0, size));
    test::ExpectRefused(OpenSafetensors(path).status(), kInvalid, path, "", "");
    if (HasFailure()) FAIL() << "cut at " << size;
  }
}

TEST(HostileSafetensorsTest, RandomDamage) {
  const TempFolder folder;
  const std::string bytes = SafetensorsParts().Encode();
  std::mt19937 random(20240602);
  const int64_t before = test::PeakMemoryKib();
  for (int i = 0; i < 3000; ++i) {
    const std::string path =
        folder.Write("flip.safetensors", test::Damage(bytes, random, bytes.size() - 32));
    const auto source = OpenSafetensors(path, i % 2);
    ASSERT_TRUE(test::IsOkOrRefused(source.status())) << "iteration " << i << source.status();
    if (!source.ok()) continue;
    for (const std::string_view name : (*source)->Names()) {
      const TensorView& view = *(*source)->Find(name);
      if (view.shape.size() > 2) continue;
      std::vector<float> values(view.rows() * view.cols());
      ASSERT_TRUE(Dequantize(view, 0, view.rows(), values.data()).ok());
    }
  }
  test::ExpectLittleMemory(before, 64 << 10);
}

}  // namespace
}  // namespace lectern
