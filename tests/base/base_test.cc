// UTF-8, digests, error details, mapped files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <random>

#include "base/error_details.h"
#include "base/files/mapped_file.h"
#include "base/hashing/sha256.h"
#include "base/utf8.h"

namespace lectern {
namespace {

// Table 3-7 of the Unicode standard and its neighbours on either side.
TEST(Utf8Test, DistinguishesWellFormedFromIllFormed) {
  for (const char* good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << bad;
  }
}

TEST(Utf8Test, ReplacesEachMaximalIllFormedPartOnce) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(ReplaceInvalidUtf8("a\xf0\x9f\x98z"), "a" + r + "z");
  EXPECT_EQ(ReplaceInvalidUtf8("\xc0\x80"), r + r);
  EXPECT_EQ(ReplaceInvalidUtf8("ok"), "ok");
}

TEST(Utf8Test, CodePointsAndBack) {
  for (char32_t c = 0; c < 0x110000; c += c < 0x1000 ? 1 : 37) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, text);
    ASSERT_EQ(Utf8CharLength(text), text.size()) << uint32_t{c};
    ASSERT_EQ(Utf8CodePoint(text + "x"), c);
  }
  EXPECT_EQ(Utf8IllFormedLength("\xff\xff"), 1u);
  EXPECT_EQ(Utf8IllFormedLength("\xf0\x9f\x98z"), 3u);
  EXPECT_EQ(Utf8IllFormedLength("\xe4\xb8"), 2u);
}

TEST(Utf8Test, BoundariesLieBetweenCharacters) {
  const std::string text =
      "a\xc3\xa9"
      "b";
  EXPECT_TRUE(IsUtf8Boundary(text, 0));
  EXPECT_TRUE(IsUtf8Boundary(text, 1));
  EXPECT_FALSE(IsUtf8Boundary(text, 2));
  EXPECT_TRUE(IsUtf8Boundary(text, 3));
  EXPECT_TRUE(IsUtf8Boundary(text, 4));
}

TEST(Utf8Test, StreamJudgesAsTheWholeDoes) {
  std::mt19937 random(1);
  const std::string alphabet[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff"};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += alphabet[random() % (round % 4 == 0 ? 5 : 4)];
    text.resize(text.size() - random() % 3);
    Utf8StreamValidator validator;
    bool ok = true;
    for (size_t at = 0; at < text.size() && ok;) {
      const size_t n = std::min<size_t>(1 + random() % 5, text.size() - at);
      ok = validator.Append(std::string_view(text).substr(at, n));
      at += n;
    }
    EXPECT_EQ(ok && validator.Complete(), IsValidUtf8(text));
    EXPECT_EQ(validator.valid_bytes(), Utf8ValidPrefix(text));
  }
}

TEST(Sha256Test, AgreesWithTheStandardHoweverItIsFed) {
  const char* abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  EXPECT_EQ(Sha256Hex("abc"), abc);  // FIPS 180-2, appendix B.1
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 digest;
  digest.Update("a");
  digest.Update("");
  digest.Update("bc");
  EXPECT_EQ(digest.HexDigest(), abc);
}

TEST(ErrorDetailsTest, TravelWithTheStatus) {
  const absl::Status status = MakeError(absl::StatusCode::kInvalidArgument, "too long",
                                        {.reason = "DOCUMENT_TOO_LONG",
                                         .metadata = {{"tokens", "9000"}, {"limit", "8192"}},
                                         .field_violations = {{"a.b", "must be c: \"d\"\n"}},
                                         .retry_after = absl::Milliseconds(1500),
                                         .resource_type = "document",
                                         .resource_name = "doc-1"});
  const absl::Status copy = status;
  const ErrorDetails details = GetErrorDetails(copy);
  EXPECT_EQ(copy.message(), "too long");
  EXPECT_EQ(details.reason, "DOCUMENT_TOO_LONG");
  EXPECT_EQ(details.metadata.at("limit"), "8192");
  ASSERT_EQ(details.field_violations.size(), 1u);
  EXPECT_EQ(details.field_violations[0].description, "must be c: \"d\"\n");
  EXPECT_EQ(details.retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(details.resource_name, "doc-1");
  EXPECT_EQ(GetErrorDetails(absl::InternalError("bare")).reason, "");
}

TEST(MappedFileTest, NamesWhatItCannotOpen) {
  const auto missing = MappedFile::Open("/nonexistent/file");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), testing::HasSubstr("/nonexistent/file"));
  EXPECT_EQ(MappedFile::Open("/").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MappedFileTest, KeepsItsBytesWhenMoved) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("lectern_mapped_" + std::to_string(getpid()));
  FILE* file = std::fopen(path.c_str(), "wb");
  std::fputs("hello", file);
  std::fclose(file);
  auto opened = MappedFile::Open(path);
  ASSERT_TRUE(opened.ok()) << opened.status();
  MappedFile moved = *std::move(opened);
  EXPECT_EQ(moved.bytes(), "hello");
  moved.DontNeed(0, 5);
  EXPECT_EQ(moved.bytes(), "hello");
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace lectern
