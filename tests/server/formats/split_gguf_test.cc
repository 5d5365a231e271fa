// Models split into several GGUF files: all parts are one source of tensors, and parts that are
// missing, damaged or of another model are refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "server/formats/format_limits.h"
#include "server/formats/gguf.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_tensors.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"
#include "tests/server/formats/read_whole_gguf.h"

namespace lectern {
namespace {

using test::GgufParts;
using test::Le;
using test::LlamaGguf;
using test::TempFolder;
using test::Text;
using test::U32;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr size_t kCount = 3;

std::string U16(uint16_t value) { return Le<uint32_t>(2) + Le(value); }

std::string NameOf(size_t part) {
  return "small-0000" + std::to_string(part + 1) + "-of-00003.gguf";
}

// The model of LlamaGguf() in parts, as gguf-split writes them.
std::vector<GgufParts> SplitLlama() {
  const GgufParts whole = LlamaGguf();
  std::vector<GgufParts> parts(kCount);
  parts[0].keys = whole.keys;
  for (size_t i = 0; i < whole.tensors.size(); ++i) {
    parts[i * kCount / whole.tensors.size()].tensors.push_back(whole.tensors[i]);
  }
  for (size_t i = 0; i < kCount; ++i) {
    parts[i].Set("split.no", U16(i));
    parts[i].Set("split.count", U16(kCount));
    parts[i].Set("split.tensors.count", test::I32(static_cast<int32_t>(whole.tensors.size())));
  }
  return parts;
}

// Returns the path of the first part.
std::string Write(const TempFolder& folder, const std::vector<GgufParts>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) folder.Write(NameOf(i), parts[i].Encode());
  return folder.path(NameOf(0));
}

TEST(SplitGgufTest, AllPartsAreOneSource) {
  const TempFolder folder;
  const std::vector<GgufParts> parts = SplitLlama();
  const std::string path = Write(folder, parts);
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->path(), path);
  ASSERT_EQ((*file)->paths().size(), kCount);
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ((*file)->paths()[i], folder.path(NameOf(i)));
    // Each part's data begins with the same bytes (Encode), at its first tensor.
    const TensorView* const first = (*file)->Find(parts[i].tensors.front().name);
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(first->bytes.substr(0, 3), std::string_view("\0\7\16", 3));
  }
  EXPECT_EQ((*file)->Names().size(), LlamaGguf().tensors.size());
  EXPECT_TRUE(test::ReadWholeGguf(path).ok()) << test::ReadWholeGguf(path);
}

TEST(SplitGgufTest, FilesThatAreWhole) {
  const TempFolder folder;
  for (const uint16_t count : {0, 1}) {  // 0 after parts were merged
    GgufParts parts = LlamaGguf();
    parts.Set("split.count", U16(count));
    const auto file = GgufFile::Open(folder.Write("whole.gguf", parts.Encode()));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*file)->paths().size(), 1u);
  }
}

TEST(SplitGgufTest, AnotherPartThanTheFirst) {
  const TempFolder folder;
  const std::string first = Write(folder, SplitLlama());
  for (size_t i = 1; i < kCount; ++i) {
    const std::string path = folder.path(NameOf(i));
    const std::string part = "is part " + std::to_string(i + 1) + " of 3";
    test::ExpectRefused(GgufFile::Open(path).status(), kInvalid, path, part,
                        "name the first: " + first);
  }
}

TEST(SplitGgufTest, RenamedAndMissingParts) {
  const TempFolder folder;
  const std::string first = Write(folder, SplitLlama());
  const std::string renamed = folder.Write("small.gguf", SplitLlama()[0].Encode());
  test::ExpectRefused(GgufFile::Open(renamed).status(), kInvalid, renamed, "is part 1 of 3",
                      "must end in -00001-of-00003.gguf");
  for (size_t i = kCount - 1; i > 0; --i) {
    const std::string missing = folder.path(NameOf(i));
    std::filesystem::remove(missing);
    test::ExpectRefused(GgufFile::Open(first).status(), kInvalid, missing,
                        "part " + std::to_string(i + 1) + " of 3", "is missing");
  }
}

TEST(SplitGgufTest, PartsOfAnotherModel) {
  for (size_t i = 1; i < kCount; ++i) {
    struct Damage {
      const char* key;
      std::string value;
      const char* why;
    };
    const Damage table[] = {{"split.no", U16(0), "is part 1 of 3"},
                            {"split.no", U16(3), "is not below the 3 parts"},
                            {"split.no", Text("1"), "is not an unsigned integer"},
                            {"split.count", U16(4), "is part"},
                            {"split.count", U16(1), "is part 1 of 1"},
                            {"split.count", U32(kMaxGgufFiles + 1), "parts; at most"},
                            {"split.tensors.count", test::I32(12), "of a model of 12 tensors"},
                            {"split.tensors.count", test::I32(-1), "is not an unsigned integer"}};
    for (const Damage& damage : table) {
      const TempFolder folder;
      std::vector<GgufParts> parts = SplitLlama();
      parts[i].Set(damage.key, damage.value);
      const std::string first = Write(folder, parts);
      test::ExpectRefused(GgufFile::Open(first).status(), kInvalid, folder.path(NameOf(i)), "",
                          damage.why);
    }
    const TempFolder folder;
    std::vector<GgufParts> parts = SplitLlama();
    parts[i].tensors[0].name = parts[0].tensors[0].name;
    std::string first = Write(folder, parts);
    test::ExpectRefused(GgufFile::Open(first).status(), kInvalid, folder.path(NameOf(i)),
                        parts[0].tensors[0].name, "is in another part");
    parts = SplitLlama();
    parts[i].tensors.pop_back();
    first = Write(folder, parts);
    test::ExpectRefused(GgufFile::Open(first).status(), kInvalid, first, "split.tensors.count",
                        "the 3 parts hold 10");
  }
}

TEST(SplitGgufTest, EveryPartCutAtEveryByte) {
  const TempFolder folder;
  const std::vector<GgufParts> parts = SplitLlama();
  const std::string first = Write(folder, parts);
  for (size_t i = 0; i < kCount; ++i) {
    uint64_t data_bytes;
    const std::string bytes = parts[i].Encode();
    const size_t header = parts[i].Header(&data_bytes).size();
    for (size_t size = 0; size < bytes.size(); size += size < header + 64 ? 1 : 97) {
      const std::string cut = folder.Write(NameOf(i), bytes.substr(0, size));
      test::ExpectRefused(test::ReadWholeGguf(first), kInvalid, cut, "", "");
      if (HasFailure()) FAIL() << cut << " cut at " << size;
    }
    folder.Write(NameOf(i), bytes);
  }
}

TEST(SplitGgufTest, RandomDamageToEveryPart) {
  const TempFolder folder;
  const std::vector<GgufParts> parts = SplitLlama();
  const std::string first = Write(folder, parts);
  std::mt19937 random(20240602);
  const int64_t before = test::PeakMemoryKib();
  for (size_t i = 0; i < kCount; ++i) {
    uint64_t data_bytes;
    const std::string bytes = parts[i].Encode();
    const size_t header = parts[i].Header(&data_bytes).size();
    int refused = 0;
    for (int n = 0; n < 1000; ++n) {
      folder.Write(NameOf(i), test::Damage(bytes, random, header));
      const absl::Status status = test::ReadWholeGguf(first);
      ASSERT_TRUE(test::IsOkOrRefused(status)) << "part " << i << ", " << n << ": " << status;
      refused += !status.ok();
    }
    EXPECT_GT(refused, 500);  // the rest changed names and values that are free
    folder.Write(NameOf(i), bytes);
  }
  test::ExpectLittleMemory(before, 64 << 10);
}

}  // namespace
}  // namespace lectern
