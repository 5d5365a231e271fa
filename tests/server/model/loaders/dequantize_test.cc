#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "server/model/loaders/tensor_source.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

const std::map<std::string, TensorType> kTypes = {
    {"F32", TensorType::kF32},   {"F16", TensorType::kF16},   {"BF16", TensorType::kBF16},
    {"Q8_0", TensorType::kQ8_0}, {"Q4_0", TensorType::kQ4_0}, {"Q4_1", TensorType::kQ4_1},
    {"Q4_K", TensorType::kQ4_K}, {"Q6_K", TensorType::kQ6_K}};

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
