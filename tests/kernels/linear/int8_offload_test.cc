// Computes the sums of an int8 product with the GPU's threads, one after the other on the CPU, and
// expects the bits of Int8Linear.
#include "kernels/linear/int8_offload.h"

#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernels/isa_test.h"
#include "tests/kernels/normal_values.h"
#include "tests/testing/int8_product_on_host.h"

namespace lectern::kernels {
namespace {

// A packed matrix with its memory.
class Weights {
 public:
  Weights(int64_t n, int64_t k)
      : packed_(PackedInt8Bytes(n, k) + 64), scale_(PaddedChannels(n)), row_sum_(scale_.size()) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(packed_.data());
    int8_t* aligned = packed_.data() + (64 - address % 64) % 64;
    const std::vector<float> w = Normal(n * k, 3 * n + k);
    EXPECT_EQ(PackInt8Rows(w.data(), 0, n, n, k, aligned, scale_.data(), row_sum_.data()),
              LaunchStatus::kOk);
    matrix_ = {n, k, aligned, scale_.data(), row_sum_.data()};
    words_.resize(PackedInt8Bytes(n, k) / sizeof(int32_t));
    std::memcpy(words_.data(), aligned, PackedInt8Bytes(n, k));
  }

  const Int8Matrix& matrix() const { return matrix_; }
  const std::vector<int32_t>& words() const { return words_; }

 private:
  std::vector<int8_t> packed_;
  std::vector<float> scale_;
  std::vector<int32_t> row_sum_;
  Int8Matrix matrix_;
  std::vector<int32_t> words_;  // the memory of a device
};

class Int8OffloadTest : public IsaTest {
 protected:
  // Runs both on the same values, with memory exactly as large as required.
  void ExpectSameBits(const LinearInput& input, const Weights& w, bool accumulate,
                      int num_threads) const {
    const int64_t n = w.matrix().n, stride = n + 3;
    const int64_t groups = (w.matrix().k + 3) / 4, blocks = PaddedChannels(n) / 64;
    std::vector<float> want = Normal(input.m * stride, 5), got = want;
    ASSERT_EQ(Int8Linear(input, w.matrix(), want.data(), stride, accumulate, Context()),
              LaunchStatus::kOk);
    std::vector<int32_t> q(input.m * groups), sums(input.m * blocks * 64);
    std::vector<float> x_scale(input.m);
    ASSERT_EQ(QuantizeInt8Rows(input, w.matrix().k, reinterpret_cast<int8_t*>(q.data()),
                               x_scale.data(), Context(num_threads)),
              LaunchStatus::kOk);
    Int8ProductOnHost({.x = q.data(),
                       .weights = w.words().data(),
                       .sums = sums.data(),
                       .rows = input.m,
                       .groups = groups,
                       .blocks = blocks});
    ASSERT_EQ(FinishInt8Sums(sums.data(), x_scale.data(), input.m, w.matrix(), got.data(), stride,
                             accumulate, Context(num_threads)),
              LaunchStatus::kOk);
    EXPECT_EQ(std::memcmp(want.data(), got.data(), want.size() * sizeof(float)), 0)
        << "m " << input.m << " n " << n << " k " << w.matrix().k;
  }
};

TEST_P(Int8OffloadTest, SameBitsAtOddShapes) {
  for (const int64_t k : {1, 3, 4, 5, 255, 256, 257, 576}) {
    for (const int64_t n : {1, 63, 64, 65, 130}) {
      const Weights w(n, k);
      for (const int64_t m : {1, 7, 8, 9, 31, 32, 33, 70}) {
        const std::vector<float> x = Normal(m * k, 31 * m + k);
        ExpectSameBits({.x = x.data(), .m = m, .stride = k}, w, m % 2 == 0, 1 + m % 3);
      }
    }
  }
}

TEST_P(Int8OffloadTest, SameBitsAfterSteps) {
  const int64_t n = 70, k = 192, m = 40;
  const Weights w(n, k);
  const std::vector<float> x = Normal(m * 2 * k, 8), gain = Normal(k, 9);
  ExpectSameBits({.x = x.data(),
                  .m = m,
                  .stride = k,
                  .step = LinearInput::Step::kRmsNorm,
                  .rms_eps = 1e-5f,
                  .rms_weight = gain.data()},
                 w, false, 2);
  ExpectSameBits(
      {.x = x.data(), .m = m, .stride = 2 * k, .step = LinearInput::Step::kGated, .hadamard = 64},
      w, true, 2);
}

TEST_P(Int8OffloadTest, SameBitsOfExtremeRows) {
  const int64_t n = 65, k = 131, m = 33;
  const Weights w(n, k);
  std::vector<float> x = Normal(m * k, 10);
  std::fill_n(x.begin(), k, 0.0f);
  x[k + 5] = std::numeric_limits<float>::infinity();
  x[2 * k + 7] = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(x.begin() + 3 * k, k, -1e30f);
  ExpectSameBits({.x = x.data(), .m = m, .stride = k}, w, false, 1);
}

TEST_P(Int8OffloadTest, RefusesWhatInt8LinearRefuses) {
  const Weights w(8, 8);
  const std::vector<float> x(8);
  std::vector<int8_t> q(8);
  std::vector<float> scale(1), y(8);
  const std::vector<int32_t> sums(64);
  const LinearInput input{.x = x.data(), .m = 1, .stride = 8};
  EXPECT_EQ(QuantizeInt8Rows(input, 8, q.data(), scale.data(), Context()), LaunchStatus::kOk);
  EXPECT_EQ(QuantizeInt8Rows(input, 9, q.data(), scale.data(), Context()), LaunchStatus::kBadShape);
  EXPECT_EQ(QuantizeInt8Rows(input, 8, nullptr, scale.data(), Context()),
            LaunchStatus::kBadArgument);
  EXPECT_EQ(FinishInt8Sums(sums.data(), scale.data(), 1, w.matrix(), y.data(), 7, false, Context()),
            LaunchStatus::kBadShape);
  EXPECT_EQ(FinishInt8Sums(nullptr, scale.data(), 1, w.matrix(), y.data(), 8, false, Context()),
            LaunchStatus::kBadArgument);
  EXPECT_EQ(
      FinishInt8Sums(sums.data(), scale.data(), 1, w.matrix(), y.data(), 8, false, Context(0)),
      LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(Isa, Int8OffloadTest, testing::ValuesIn(AllIsas()), IsaName);

// Int32 sums of the longest rows do not overflow.
static_assert(kInt8MaxInputs * 127 * 127 < (int64_t{1} << 31));

}  // namespace
}  // namespace lectern::kernels
