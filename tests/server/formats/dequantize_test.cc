#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "server/formats/tensor_source.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

const std::map<std::string, TensorType> kTypes = {
    {"F32", TensorType::kF32},    {"F16", TensorType::kF16},       {"BF16", TensorType::kBF16},
    {"Q8_0", TensorType::kQ8_0},  {"Q4_0", TensorType::kQ4_0},     {"Q4_1", TensorType::kQ4_1},
    {"Q5_0", TensorType::kQ5_0},  {"Q5_1", TensorType::kQ5_1},     {"Q2_K", TensorType::kQ2_K},
    {"Q3_K", TensorType::kQ3_K},  {"Q4_K", TensorType::kQ4_K},     {"Q5_K", TensorType::kQ5_K},
    {"Q6_K", TensorType::kQ6_K},  {"IQ4_NL", TensorType::kIQ4_NL}, {"IQ4_XS", TensorType::kIQ4_XS},
    {"MXFP4", TensorType::kMXFP4}};

TEST(DequantizeGoldenTest, EveryTypeAgreesWithTheGgufPackage) {
  const auto cases = test::GoldenCases("dequantize", test::FixtureDir());
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family dequantize");
  EXPECT_GE(cases.size(), kTypes.size());
  for (const test::GoldenCase& one : cases) {
    SCOPED_TRACE(one.name);
    const test::GoldenTensors data = one.Load();
    const std::vector<uint8_t>& blocks = data["blocks"].u8;
    const int64_t rows = one.params["rows"], cols = one.params["cols"];
    const TensorView view{.name = "x",
                          .type = kTypes.at(one.params["type"]),
                          .shape = {rows, cols},
                          .bytes = {reinterpret_cast<const char*>(blocks.data()), blocks.size()}};
    EXPECT_EQ(ToString(view.type), std::string(one.params["type"]));
    std::vector<float> got(rows * cols);
    ASSERT_TRUE(Dequantize(view, 0, rows, got.data()).ok());
    EXPECT_EQ(test::CompareValues(got, data["values"].f64, one.ToleranceOf("values")), "");
    for (int64_t row = 0; row < rows; ++row) {  // any range of rows is a slice of the whole
      std::vector<float> part((rows - row) * cols);
      ASSERT_TRUE(Dequantize(view, row, rows - row, part.data()).ok());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), got.begin() + row * cols)) << row;
    }
  }
}

TensorView FloatsOf(const std::vector<uint16_t>& halves) {
  return {.name = "halves",
          .type = TensorType::kF16,
          .shape = {static_cast<int64_t>(halves.size())},
          .bytes = {reinterpret_cast<const char*>(halves.data()), 2 * halves.size()}};
}

// The largest difference that a type's codes may have from the value of the file.
double RoundingOf(TensorType type, float scale, int code) {
  if (BlockFormOf(type).rounds) return 0.5001 * std::fabs(scale);  // the nearest of the codes
  if (type != TensorType::kIQ4_XS) return 0;
  // Half precision keeps 11 bits of a scale; below 2^-14, multiples of 2^-24.
  return 0x1p-11 * std::fabs(double{scale} * code) + 0x1p-25 * std::abs(code);
}

// scale * code + minimum of the codes that a product reads are the values of the file, or the
// nearest ones where its type has no such codes.
TEST(BlockCodesTest, AreTheNumbersOfTheFile) {
  std::map<TensorType, int> rows_read;
  for (const test::GoldenCase& one : test::GoldenCases("dequantize", test::FixtureDir())) {
    const TensorType type = kTypes.at(one.params["type"]);
    const int64_t rows = one.params["rows"], cols = one.params["cols"];
    if (cols % 32 != 0) continue;
    SCOPED_TRACE(one.name);
    const test::GoldenTensors data = one.Load();
    const std::vector<uint8_t>& blocks = data["blocks"].u8;
    const TensorView view{.name = "x",
                          .type = type,
                          .shape = {rows, cols},
                          .bytes = {reinterpret_cast<const char*>(blocks.data()), blocks.size()}};
    const BlockForm form = BlockFormOf(type);
    const int64_t scale_values = form.bits == 6 ? 16 : 32;
    const int lowest = form.bits <= 5 ? 0 : -(1 << (form.bits - 1));
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<float> want(cols);
      ASSERT_TRUE(Dequantize(view, row, 1, want.data()).ok());
      BlockCodes codes;
      if (const absl::Status status = ReadBlockCodes(view, row, codes); !status.ok()) {
        // A scale or minimum beyond half precision.
        const float largest =
            std::fabs(*std::max_element(want.begin(), want.end(), [](float a, float b) {
              return std::fabs(a) < std::fabs(b);
            }));
        EXPECT_GT(largest, 8000.0f) << status;
        continue;
      }
      ++rows_read[type];
      ASSERT_EQ(codes.codes.size(), static_cast<size_t>(cols));
      const int64_t shares = form.two_levels ? 256 : 32;
      std::vector<float> scale(cols / shares), minimum(cols / shares, 0.0f);
      ASSERT_EQ(codes.scale.size(), scale.size());
      ASSERT_TRUE(Dequantize(FloatsOf(codes.scale), 0, 1, scale.data()).ok());
      ASSERT_EQ(codes.minimum.size(), form.bits <= 5 ? minimum.size() : 0);
      if (form.bits <= 5) {
        ASSERT_TRUE(Dequantize(FloatsOf(codes.minimum), 0, 1, minimum.data()).ok());
      }
      ASSERT_EQ(codes.sub_scale.size(), form.two_levels ? cols / scale_values : 0);
      ASSERT_EQ(codes.sub_minimum.size(), form.two_levels && form.bits <= 5 ? cols / 32 : 0);
      for (int64_t i = 0; i < cols; ++i) {
        const int code = codes.codes[i];
        ASSERT_TRUE(lowest <= code && code < lowest + (1 << form.bits)) << code;
        float s = scale[i / shares], m = minimum[i / shares];
        if (form.two_levels) {
          const uint8_t byte = codes.sub_scale[i / scale_values];
          s *= static_cast<float>(form.bits == 6 ? static_cast<int8_t>(byte) : byte);
          m *= form.bits == 6 ? 0.0f : -static_cast<float>(codes.sub_minimum[i / 32]);
        }
        ASSERT_NEAR(s * static_cast<float>(code) + m, want[i], RoundingOf(type, s, code))
            << row << ", " << i;
      }
    }
  }
  for (const auto& [name, type] : kTypes) {
    if (BlockValues(type) == 1) continue;
    EXPECT_GE(rows_read[type], 1) << name;
  }
}

// Q4_0 has no minimum: -8 scales, and Q5_0 -16, for every scale of which half precision can hold
// that multiple.
class MinimumTest : public ::testing::TestWithParam<TensorType> {};

TEST_P(MinimumTest, OfEveryScale) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    std::string block(BlockBytes(GetParam()), '\0');
    std::memcpy(block.data(), &bits, 2);
    const TensorView view{.name = "weight", .type = GetParam(), .shape = {1, 32}, .bytes = block};
    float want[32];
    ASSERT_TRUE(Dequantize(view, 0, 1, want).ok());
    BlockCodes codes;
    const absl::Status status = ReadBlockCodes(view, 0, codes);
    if (!(std::fabs(want[0]) <= 65504.0f)) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bits;
      continue;
    }
    ASSERT_TRUE(status.ok()) << bits;
    float minimum = 0;
    ASSERT_TRUE(Dequantize(FloatsOf(codes.minimum), 0, 1, &minimum).ok());
    ASSERT_EQ(minimum, want[0]) << bits;
  }
}

INSTANTIATE_TEST_SUITE_P(WithoutMinimum, MinimumTest,
                         ::testing::Values(TensorType::kQ4_0, TensorType::kQ5_0),
                         [](const auto& info) { return std::string(ToString(info.param)); });

TEST(BlockCodesTest, RefusesOtherTypesAndRows) {
  const std::string bytes(2 * 34, '\0');
  TensorView view{.name = "weight", .type = TensorType::kQ8_0, .shape = {2, 32}, .bytes = bytes};
  BlockCodes codes;
  EXPECT_TRUE(ReadBlockCodes(view, 1, codes).ok());
  EXPECT_FALSE(ReadBlockCodes(view, 2, codes).ok());
  EXPECT_FALSE(ReadBlockCodes(view, -1, codes).ok());
  view.type = TensorType::kF16;
  view.shape = {1, 34};
  EXPECT_EQ(ReadBlockCodes(view, 0, codes).code(), absl::StatusCode::kInvalidArgument);
}

TEST(DequantizeTest, EveryHalfPrecisionNumber) {
  std::vector<uint16_t> halves(1 << 16);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  const TensorView view{.name = "x",
                        .type = TensorType::kF16,
                        .shape = {1 << 16},
                        .bytes = {reinterpret_cast<const char*>(halves.data()), 2 << 16}};
  std::vector<float> got(halves.size());
  ASSERT_TRUE(Dequantize(view, 0, 1, got.data()).ok());
  for (size_t i = 0; i < halves.size(); ++i) {
    const int exponent = i >> 10 & 31, mantissa = i & 1023;
    double want = exponent == 0    ? std::ldexp(mantissa, -24)
                  : exponent == 31 ? std::numeric_limits<double>::infinity()
                                   : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(got[i])) << i;
      continue;
    }
    if (i & 0x8000) want = -want;
    ASSERT_EQ(got[i], want) << i;
    ASSERT_EQ(std::signbit(got[i]), std::signbit(want)) << i;
  }
}

TEST(DequantizeTest, NonFiniteValuesPassThrough) {
  const float values[] = {std::numeric_limits<float>::infinity(), std::nanf("")};
  const TensorView view{.name = "x",
                        .type = TensorType::kF32,
                        .shape = {2},
                        .bytes = {reinterpret_cast<const char*>(values), sizeof(values)}};
  float got[2];
  ASSERT_TRUE(Dequantize(view, 0, 1, got).ok());
  EXPECT_EQ(got[0], values[0]);
  EXPECT_TRUE(std::isnan(got[1]));
}

TEST(DequantizeTest, RefusesWhatDoesNotFit) {
  const std::string bytes(2 * 34, '\0');
  const TensorView good{
      .name = "weight", .type = TensorType::kQ8_0, .shape = {2, 32}, .bytes = bytes};
  const auto expect_refused = [&](TensorView view, int64_t first, int64_t rows) {
    float out[64];
    const absl::Status status = Dequantize(view, first, rows, out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.ToString().find("'weight'"), std::string::npos) << status.ToString();
  };
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  for (const auto& [first, rows] : std::vector<std::pair<int64_t, int64_t>>{
           {-1, 1}, {0, 3}, {1, 2}, {2, 1}, {0, -1}, {kHuge, kHuge}, {kHuge, 1}, {1, kHuge}}) {
    expect_refused(good, first, rows);
  }
  TensorView bad = good;
  bad.shape = {1, 2, 32};
  expect_refused(bad, 0, 1);
  bad.shape = {2, 31};
  expect_refused(bad, 0, 1);
  bad.shape = {3, 32};
  expect_refused(bad, 0, 1);
  float out[1];
  EXPECT_TRUE(Dequantize(good, 2, 0, out).ok());
}

}  // namespace
}  // namespace lectern
