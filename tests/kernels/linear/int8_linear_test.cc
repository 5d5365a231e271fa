#include "kernels/linear/int8_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "kernels/ffn/activate.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/rms_norm.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

struct AlignedDelete {
  void operator()(int8_t* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};

// A packed matrix with its memory. The packed bytes start out as garbage, so that the test
// notices a byte that packing forgets.
struct Packed {
  std::unique_ptr<int8_t, AlignedDelete> bytes;
  std::vector<float> scale;
  std::vector<int32_t> row_sum;
  Int8Matrix matrix;
};

Packed MakeStorage(int64_t n, int64_t k) {
  Packed packed;
  const size_t size = PackedInt8Bytes(n, k);
  packed.bytes.reset(static_cast<int8_t*>(::operator new[](size, std::align_val_t{64})));
  std::memset(packed.bytes.get(), 0x55, size);
  packed.scale.assign(PaddedChannels(n), -1.0f);
  packed.row_sum.assign(PaddedChannels(n), 12345);
  packed.matrix = {n, k, packed.bytes.get(), packed.scale.data(), packed.row_sum.data()};
  return packed;
}

Packed Pack(const std::vector<float>& w, int64_t n, int64_t k) {
  Packed packed = MakeStorage(n, k);
  EXPECT_EQ(PackInt8Rows(w.data(), 0, n, n, k, packed.bytes.get(), packed.scale.data(),
                         packed.row_sum.data()),
            LaunchStatus::kOk);
  return packed;
}

// The largest integer of an activation, as documented for each class.
float ActivationLimit(Isa isa) { return isa == Isa::kAvx2 ? 63.0f : 127.0f; }

struct QuantizedRow {
  std::vector<int32_t> q;
  float scale = 0.0f;
};

QuantizedRow Quantize(const float* x, int64_t k, float limit) {
  QuantizedRow row{std::vector<int32_t>(k), 0.0f};
  float max = 0.0f;
  for (int64_t i = 0; i < k; ++i) max = std::max(max, std::fabs(x[i]));
  if (max == 0.0f) return row;
  const volatile float inverse = limit / max;
  for (int64_t i = 0; i < k; ++i) {
    const volatile float scaled = x[i] * inverse;  // rounded to float before it is an integer
    row.q[i] = static_cast<int32_t>(std::nearbyint(scaled));
  }
  row.scale = max / limit;
  return row;
}

// The largest sum of integers of one sign among inputs 0, 1, 4, 5 or 2, 3, 6, 7 of any eight.
int32_t LargestQuadSum(const std::vector<int32_t>& q) {
  int32_t largest = 0;
  for (size_t first = 0; first < q.size(); first += 2) {
    if (first % 8 >= 4) continue;
    for (const int sign : {1, -1}) {
      int32_t sum = 0;
      for (const size_t i : {first, first + 1, first + 4, first + 5}) {
        if (i < q.size()) sum += std::max(sign * q[i], 0);
      }
      largest = std::max(largest, sum);
    }
  }
  return largest;
}

// A channel of weights, as documented.
QuantizedRow QuantizeChannel(const float* w, int64_t k) {
  int32_t limit = 127;
  QuantizedRow row = Quantize(w, k, 127.0f);
  while (LargestQuadSum(row.q) > 258) {
    limit = limit * 258 / LargestQuadSum(row.q);
    row = Quantize(w, k, static_cast<float>(limit));
  }
  return row;
}

// The result that Int8Linear must return: the exact integer sum, then two float products.
std::vector<float> Expected(const std::vector<float>& x, int64_t m, const std::vector<float>& w,
                            int64_t n, int64_t k, Isa isa) {
  std::vector<QuantizedRow> rows, channels;
  for (int64_t i = 0; i < m; ++i) {
    rows.push_back(Quantize(x.data() + i * k, k, ActivationLimit(isa)));
  }
  for (int64_t c = 0; c < n; ++c) channels.push_back(QuantizeChannel(w.data() + c * k, k));
  std::vector<float> y(m * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t c = 0; c < n; ++c) {
      int64_t sum = 0;
      for (int64_t j = 0; j < k; ++j) {
        sum += static_cast<int64_t>(rows[i].q[j]) * channels[c].q[j];
      }
      const volatile float scale = rows[i].scale * channels[c].scale;
      y[i * n + c] = static_cast<float>(sum) * scale;
    }
  }
  return y;
}

class Int8LinearTest : public IsaTest {
 protected:
  std::vector<float> Run(const std::vector<float>& x, int64_t m, const Packed& w,
                         int num_threads = 1) const {
    std::vector<float> y(m * w.matrix.n, std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(Int8Linear(x.data(), m, w.matrix.k, w.matrix, y.data(), w.matrix.n, false,
                         Context(num_threads)),
              LaunchStatus::kOk);
    return y;
  }
};

TEST_P(Int8LinearTest, EqualsExactIntegerProduct) {
  for (int64_t k : {1, 2, 3, 4, 5, 63, 64, 65, 100, 576}) {
    for (int64_t n : {1, 15, 16, 17, 63, 64, 65, 130}) {
      const std::vector<float> w = Normal(n * k, 7 * n + k);
      const Packed packed = Pack(w, n, k);
      for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 13, 25, 49}) {
        const std::vector<float> x = Normal(m * k, 31 * m + k);
        ASSERT_EQ(Run(x, m, packed, 1 + m % 3), Expected(x, m, w, n, k, GetParam()))
            << "m " << m << " n " << n << " k " << k;
      }
    }
  }
}

TEST_P(Int8LinearTest, SeveralPanelsOfRows) {
  const int64_t m = 1000, n = 33, k = 1537;  // more than 768 KiB of quantised rows
  const std::vector<float> w = Normal(n * k, 1), x = Normal(m * k, 2);
  EXPECT_EQ(Run(x, m, Pack(w, n, k), 2), Expected(x, m, w, n, k, GetParam()));
}

// |y - x.w| <= sum |w| e_x + |x| e_w + e_x e_w, where e = scale * (1/2 + 127 * 3 u) is the rounding
// to an integer and of the three float operations around it (u = 2^-24), and 3 u |y| for the last
// conversion and products.
TEST_P(Int8LinearTest, WithinDerivedBoundOfUnquantisedProduct) {
  const int64_t m = 5, n = 70, k = 611;
  const std::vector<float> w = Normal(n * k, 3, 0.05f), x = Normal(m * k, 4);
  const std::vector<float> y = Run(x, m, Pack(w, n, k));
  const double u = std::ldexp(1.0, -24);
  for (int64_t i = 0; i < m; ++i) {
    const double e_x =
        Quantize(x.data() + i * k, k, ActivationLimit(GetParam())).scale * (0.5 + 127 * 3 * u);
    for (int64_t c = 0; c < n; ++c) {
      const double e_w = QuantizeChannel(w.data() + c * k, k).scale * (0.5 + 127 * 3 * u);
      double exact = 0.0, bound = 0.0;
      for (int64_t j = 0; j < k; ++j) {
        const double a = x[i * k + j], b = w[c * k + j];
        exact += a * b;
        bound += std::fabs(b) * e_x + std::fabs(a) * e_w + e_x * e_w;
      }
      bound += 3 * u * std::fabs(y[i * n + c]);
      EXPECT_LE(std::fabs(y[i * n + c] - exact), bound) << i << ", " << c;
    }
  }
}

// Every product at its largest magnitude: 16-bit intermediate sums would saturate.
TEST_P(Int8LinearTest, ExtremeRowsDoNotSaturate) {
  const int64_t k = 2048, n = 66;
  std::vector<float> w(n * k), x(4 * k);
  for (int64_t c = 0; c < n; ++c) {
    for (int64_t i = 0; i < k; ++i) {
      const float alternating = i % 2 == 0 ? 1.0f : -1.0f;
      w[c * k + i] = c % 3 == 0 ? 1.0f : c % 3 == 1 ? -1.0f : alternating;
    }
  }
  for (int64_t i = 0; i < k; ++i) {
    x[0 * k + i] = 3.0f;
    x[1 * k + i] = -3.0f;
    x[2 * k + i] = i % 2 == 0 ? 3.0f : -3.0f;
    x[3 * k + i] = i % 4 < 2 ? 3.0f : -3.0f;
  }
  const std::vector<float> y = Run(x, 4, Pack(w, n, k));
  EXPECT_EQ(y, Expected(x, 4, w, n, k, GetParam()));
  // Whole numbers of quantisation steps, so the quantised product is the real one but for rounding.
  EXPECT_NEAR(y[0], 3.0 * k, 3.0 * k * std::ldexp(4.0, -24));
  EXPECT_NEAR(y[1], -3.0 * k, 3.0 * k * std::ldexp(4.0, -24));
}

// Rows with the signs of a channel make its products add up to the largest possible sums.
TEST_P(Int8LinearTest, LargestSumsOfEveryChannelStayExact) {
  const int64_t n = 48, k = 584;
  std::vector<float> w = Normal(n * k, 21);
  for (int64_t i = 0; i < n / 2 * k; ++i) w[i] = w[i] * w[i] * w[i];  // few large ones
  for (int64_t i = n / 2 * k; i < n / 4 * 3 * k; ++i) w[i] = std::copysign(1.0f, w[i]);
  std::vector<float> x(2 * n * k);
  for (int64_t i = 0; i < n * k; ++i) {
    x[i] = std::copysign(1.0f, w[i]);
    x[n * k + i] = -x[i];
  }
  EXPECT_EQ(Run(x, 2 * n, Pack(w, n, k)), Expected(x, 2 * n, w, n, k, GetParam()));
}

// Scaling down costs normally distributed weights, such as a rotated matrix, next to nothing.
TEST(Int8PackTest, NormalWeightsKeepTheirPrecision) {
  const int64_t n = 2000, k = 768;
  const std::vector<float> w = Normal(n * k, 22);
  const Packed packed = Pack(w, n, k);
  double mean_square = 0.0;  // of a channel's rounding, that of full scale being 1
  for (int64_t c = 0; c < n; ++c) {
    const QuantizedRow full = Quantize(w.data() + c * k, k, 127.0f);
    const QuantizedRow row = QuantizeChannel(w.data() + c * k, k);
    ASSERT_EQ(packed.scale[c], row.scale) << c;
    const double ratio = row.scale / full.scale;
    mean_square += ratio * ratio / n;
  }
  EXPECT_LT(mean_square, 1.1);
}

TEST_P(Int8LinearTest, LongestInputStaysExact) {
  const int64_t k = int64_t{1} << 17;  // 2^17 * 127 * 127 is just below 2^31
  std::vector<float> w(2 * k, 1.0f), x(k, 1.0f);
  std::fill(w.begin() + k, w.end(), -1.0f);
  EXPECT_EQ(Run(x, 1, Pack(w, 2, k)), Expected(x, 1, w, 2, k, GetParam()));
}

TEST_P(Int8LinearTest, RowDependsOnThatRowAlone) {
  const int64_t m = 60, n = 200, k = 300;
  const Packed packed = Pack(Normal(n * k, 5), n, k);
  const std::vector<float> x = Normal(m * k, 6);
  const std::vector<float> together = Run(x, m, packed);
  for (int threads : {2, 3, 4, 7}) EXPECT_EQ(Run(x, m, packed, threads), together) << threads;
  for (int64_t rows : {1, 2, 5, 7, 12, 31}) {
    for (int64_t row = 0; row + rows <= m; row += rows) {
      const std::vector<float> part(x.begin() + row * k, x.begin() + (row + rows) * k);
      const std::vector<float> y = Run(part, rows, packed, 2);
      ASSERT_TRUE(std::equal(y.begin(), y.end(), together.begin() + row * n))
          << rows << " rows from " << row;
    }
  }
}

TEST_P(Int8LinearTest, StridesAndAccumulate) {
  const int64_t m = 9, n = 77, k = 50, x_stride = 61, y_stride = 90;
  const std::vector<float> w = Normal(n * k, 8), dense = Normal(m * k, 9);
  const Packed packed = Pack(w, n, k);
  std::vector<float> x(m * x_stride, 1e30f);  // the floats between rows must not be read
  for (int64_t i = 0; i < m; ++i) {
    std::copy_n(dense.begin() + i * k, k, x.begin() + i * x_stride);
  }
  const std::vector<float> before = Normal(m * y_stride, 10);
  std::vector<float> y = before;
  ASSERT_EQ(Int8Linear(x.data(), m, x_stride, packed.matrix, y.data(), y_stride, true, Context(2)),
            LaunchStatus::kOk);
  const std::vector<float> product = Expected(dense, m, w, n, k, GetParam());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t c = 0; c < y_stride; ++c) {
      const float old = before[i * y_stride + c];
      ASSERT_EQ(y[i * y_stride + c], c < n ? old + product[i * n + c] : old) << i << ", " << c;
    }
  }
}

TEST_P(Int8LinearTest, ZeroRowsAndChannels) {
  const int64_t n = 20, k = 40;
  std::vector<float> w = Normal(n * k, 11), x = Normal(2 * k, 12);
  std::fill_n(w.begin() + 3 * k, k, 0.0f);
  std::fill_n(x.begin(), k, 0.0f);
  const std::vector<float> y = Run(x, 2, Pack(w, n, k));
  for (int64_t c = 0; c < n; ++c) EXPECT_EQ(y[c], 0.0f);
  EXPECT_EQ(y[n + 3], 0.0f);
  EXPECT_EQ(y, Expected(x, 2, w, n, k, GetParam()));
}

TEST_P(Int8LinearTest, TinyAndHugeRows) {
  const int64_t n = 5, k = 33;
  const std::vector<float> w = Normal(n * k, 13);
  std::vector<float> x = Normal(3 * k, 14);
  for (int64_t i = 0; i < k; ++i) {
    x[i] *= 1e-25f;
    x[k + i] *= 1e25f;
    x[2 * k + i] *= 1e-40f;  // below 2^-100: counts as zeros
  }
  const std::vector<float> y = Run(x, 3, Pack(w, n, k));
  std::vector<float> expected = Expected(x, 3, w, n, k, GetParam());
  std::fill_n(expected.begin() + 2 * n, n, 0.0f);
  EXPECT_EQ(y, expected);
}

TEST_P(Int8LinearTest, NotFiniteStaysInItsRowOrChannel) {
  const int64_t n = 64, k = 70;
  std::vector<float> w = Normal(n * k, 15);
  std::vector<float> x = Normal(3 * k, 16);
  const std::vector<float> clean = Expected(x, 3, w, n, k, GetParam());
  w[5 * k + 7] = std::numeric_limits<float>::infinity();
  x[0 * k + 69] = std::numeric_limits<float>::quiet_NaN();
  x[2 * k + 1] = -std::numeric_limits<float>::infinity();
  const std::vector<float> y = Run(x, 3, Pack(w, n, k));
  for (int64_t c = 0; c < n; ++c) {
    EXPECT_TRUE(std::isnan(y[c]));
    if (c == 5) {
      EXPECT_TRUE(std::isnan(y[n + c]));
    } else {
      EXPECT_EQ(y[n + c], clean[n + c]);
    }
    EXPECT_TRUE(std::isnan(y[2 * n + c]));
  }
}

TEST_P(Int8LinearTest, CallsFromSeveralThreads) {
  const int64_t m = 30, n = 100, k = 200;
  const Packed packed = Pack(Normal(n * k, 17), n, k);
  const std::vector<float> x = Normal(m * k, 18);
  const std::vector<float> expected = Run(x, m, packed);
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> results(3);
  for (auto& result : results) {
    threads.emplace_back([&] { result = Run(x, m, packed, 2); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST_P(Int8LinearTest, BadArguments) {
  const int64_t n = 8, k = 8;
  const Packed packed = Pack(Normal(n * k, 19), n, k);
  const std::vector<float> x = Normal(2 * k, 20);
  std::vector<float> y(2 * n);
  const Int8Matrix& w = packed.matrix;
  const auto run = [&](const float* in, int64_t m, int64_t x_stride, const Int8Matrix& matrix,
                       float* out, int64_t y_stride, ExecutionContext context) {
    return Int8Linear(in, m, x_stride, matrix, out, y_stride, false, context);
  };
  const ExecutionContext context = Context();
  EXPECT_EQ(run(x.data(), 0, k, w, y.data(), n, context), LaunchStatus::kOk);
  EXPECT_EQ(run(x.data(), -1, k, w, y.data(), n, context), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 2, k - 1, w, y.data(), n, context), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 2, k, w, y.data(), n - 1, context), LaunchStatus::kBadShape);
  EXPECT_EQ(run(nullptr, 2, k, w, y.data(), n, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(run(x.data(), 2, k, w, nullptr, n, context), LaunchStatus::kBadArgument);
  ExecutionContext no_threads = context;
  no_threads.num_threads = 0;
  EXPECT_EQ(run(x.data(), 2, k, w, y.data(), n, no_threads), LaunchStatus::kBadArgument);

  Int8Matrix bad = w;
  bad.n = 0;
  EXPECT_EQ(run(x.data(), 2, k, bad, y.data(), n, context), LaunchStatus::kBadShape);
  bad = w;
  bad.k = (int64_t{1} << 17) + 1;
  EXPECT_EQ(run(x.data(), 2, bad.k, bad, y.data(), n, context), LaunchStatus::kBadShape);
  bad = w;
  bad.packed += 1;
  EXPECT_EQ(run(x.data(), 2, k, bad, y.data(), n, context), LaunchStatus::kBadArgument);
  bad = w;
  bad.row_sum = nullptr;
  EXPECT_EQ(run(x.data(), 2, k, bad, y.data(), n, context), LaunchStatus::kBadArgument);
}

// The steps before a product equal those of the separate kernels, bit for bit.
TEST_P(Int8LinearTest, NormOnTheWayInEqualsTheNormAlone) {
  const int64_t k = 97, n = 130, stride = k + 3;
  const Packed packed = Pack(Normal(n * k, 31), n, k);
  for (const int64_t rows : {1, 3, 150}) {
    const std::vector<float> x = Normal(rows * stride, 32);
    std::vector<float> normed(rows * k), want(rows * n), got(rows * n, 1.0f);
    for (int64_t row = 0; row < rows; ++row) {
      ASSERT_EQ(RmsNorm(x.data() + row * stride, 1, k, nullptr, 0.01f, normed.data() + row * k,
                        Context()),
                LaunchStatus::kOk);
    }
    ASSERT_EQ(Int8Linear(normed.data(), rows, k, packed.matrix, want.data(), n, false, Context()),
              LaunchStatus::kOk);
    const LinearInput input{.x = x.data(),
                            .m = rows,
                            .stride = stride,
                            .step = LinearInput::Step::kRmsNorm,
                            .rms_eps = 0.01f};
    ASSERT_EQ(Int8Linear(input, packed.matrix, got.data(), n, false, Context(2)),
              LaunchStatus::kOk);
    EXPECT_EQ(got, want);
  }
}

TEST_P(Int8LinearTest, GatedActivationOnTheWayInEqualsItsKernels) {
  const int64_t k = 96, n = 70;
  const Packed packed = Pack(Normal(n * k, 33), n, k);
  const std::pair<FfnActivation, int64_t> steps[] = {
      {FfnActivation::kSilu, 1}, {FfnActivation::kSilu, 32}, {FfnActivation::kGeluTanh, 32}};
  for (const auto& [activation, hadamard] : steps) {
    for (const int64_t rows : {1, 5, 150}) {
      const std::vector<float> pairs = Normal(rows * 2 * k, 34);
      std::vector<float> mixed(rows * k), want(rows * n, 2.0f), got(rows * n, 2.0f);
      ASSERT_EQ(Activate(activation, pairs.data(), 2 * k, pairs.data() + k, 2 * k, rows, k,
                         mixed.data(), k, Context()),
                LaunchStatus::kOk);
      ASSERT_EQ(BlockHadamard(mixed.data(), rows, k, k, hadamard, Context()), LaunchStatus::kOk);
      ASSERT_EQ(Int8Linear(mixed.data(), rows, k, packed.matrix, want.data(), n, true, Context()),
                LaunchStatus::kOk);
      const LinearInput input{.x = pairs.data(),
                              .m = rows,
                              .stride = 2 * k,
                              .step = LinearInput::Step::kGated,
                              .activation = activation,
                              .hadamard = hadamard};
      ASSERT_EQ(Int8Linear(input, packed.matrix, got.data(), n, true, Context(2)),
                LaunchStatus::kOk);
      EXPECT_EQ(got, want) << "block " << hadamard << ", rows " << rows;
    }
  }
}

TEST_P(Int8LinearTest, RefusesBadSteps) {
  const int64_t k = 96, n = 8;
  const Packed packed = Pack(Normal(n * k, 35), n, k);
  const std::vector<float> x(2 * k);
  std::vector<float> y(n);
  const auto run = [&](LinearInput input) {
    input.x = x.data();
    input.m = 1;
    return Int8Linear(input, packed.matrix, y.data(), n, false, Context());
  };
  const auto gated = LinearInput::Step::kGated;
  EXPECT_EQ(run({.stride = 2 * k, .step = gated}), LaunchStatus::kOk);
  EXPECT_EQ(run({.stride = 2 * k - 1, .step = gated}), LaunchStatus::kBadShape);
  EXPECT_EQ(run({.stride = 2 * k, .step = gated, .hadamard = 64}), LaunchStatus::kBadShape);
  EXPECT_EQ(run({.stride = 2 * k, .step = gated, .hadamard = 3}), LaunchStatus::kBadShape);
  EXPECT_EQ(run({.stride = 2 * k, .step = gated, .hadamard = 0}), LaunchStatus::kBadShape);
}

INSTANTIATE_TEST_SUITE_P(Isa, Int8LinearTest, testing::ValuesIn(AllIsas()), IsaName);

TEST(PackInt8RowsTest, RowRangesFromThreadsEqualOneCall) {
  const int64_t n = 300, k = 37;
  const std::vector<float> w = Normal(n * k, 21);
  const Packed whole = Pack(w, n, k);
  Packed parts = MakeStorage(n, k);
  std::vector<std::thread> threads;
  for (int64_t first = 0; first < n; first += 128) {
    threads.emplace_back([&, first] {
      EXPECT_EQ(PackInt8Rows(w.data() + first * k, first, std::min<int64_t>(128, n - first), n, k,
                             parts.bytes.get(), parts.scale.data(), parts.row_sum.data()),
                LaunchStatus::kOk);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::memcmp(whole.bytes.get(), parts.bytes.get(), PackedInt8Bytes(n, k)), 0);
  EXPECT_EQ(whole.scale, parts.scale);
  EXPECT_EQ(whole.row_sum, parts.row_sum);
}

TEST(PackInt8RowsTest, PaddingIsZero) {
  const Packed packed = Pack(Normal(65 * 3, 22), 65, 3);
  for (int64_t row = 65; row < PaddedChannels(65); ++row) {
    EXPECT_EQ(packed.scale[row], 0.0f);
    EXPECT_EQ(packed.row_sum[row], 0);
  }
  EXPECT_EQ(PaddedChannels(65), 128);
  EXPECT_EQ(PackedInt8Bytes(65, 3), 128u * 4u);
}

TEST(PackInt8RowsTest, BadArguments) {
  const std::vector<float> w(64);
  Packed storage = MakeStorage(8, 8);
  const auto pack = [&](const float* rows, int64_t first, int64_t count, int64_t n, int64_t k) {
    return PackInt8Rows(rows, first, count, n, k, storage.bytes.get(), storage.scale.data(),
                        storage.row_sum.data());
  };
  EXPECT_EQ(pack(w.data(), 0, 0, 8, 8), LaunchStatus::kOk);
  EXPECT_EQ(pack(w.data(), 0, 9, 8, 8), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(w.data(), 4, 5, 8, 8), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(w.data(), -1, 1, 8, 8), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(w.data(), 0, -1, 8, 8), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(w.data(), 0, 1, 0, 8), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(w.data(), 0, 1, 8, 0), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(nullptr, 0, 8, 8, 8), LaunchStatus::kBadArgument);
}

}  // namespace
}  // namespace lectern::kernels
