#include "kernels/linear/block_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <tuple>
#include <vector>

#include "kernels/ffn/activate.h"
#include "kernels/rows/rms_norm.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

// Scales and minima that half precision holds, with their bits.
struct Half {
  uint16_t bits;
  float value;
};
constexpr Half kHalves[] = {{0x3C00, 1.0f},         {0xC100, -2.5f},    {0x2E66, 0.0999755859375f},
                            {0x0000, 0.0f},         {0x0001, 0x1p-24f}, {0x83FF, -0x1.FF8p-15f},
                            {0x0400, 0x1p-14f},     {0x7BFF, 65504.0f}, {0x5640, 100.0f},
                            {0xB555, -0.333251953f}};

constexpr BlockForm kForms[] = {{4}, {5}, {8}, {4, true}, {5, true}, {6, true}};

std::string NameOf(BlockForm form) {
  return std::to_string(form.bits) + (form.two_levels ? "bit_two_levels" : "bit");
}

// A matrix [n, k] in three forms: blocks as in the file, numbers, and packed.
class Matrix {
 public:
  Matrix(int64_t n, int64_t k, BlockForm form, uint32_t seed = 1, bool extreme = false)
      : n_(n),
        k_(k),
        form_(form),
        codes_(n * k),
        sub_scale_(n * k / form.scale_inputs()),
        sub_minimum_(n * k / 32),
        scale_(form.two_levels ? n * k / 256 : sub_scale_.size()),
        minimum_(form.two_levels ? n * k / 256 : sub_minimum_.size()) {
    std::mt19937 generator(seed);
    const int lowest = form.has_minimum() ? 0 : -(1 << (form.bits - 1));
    const int highest = lowest + (1 << form.bits) - 1;
    for (int8_t& code : codes_) {
      code =
          static_cast<int8_t>(extreme ? (generator() % 2 ? lowest : highest)
                                      : std::uniform_int_distribution(lowest, highest)(generator));
    }
    for (uint8_t& byte : sub_scale_) byte = static_cast<uint8_t>(generator());
    for (uint8_t& byte : sub_minimum_) byte = static_cast<uint8_t>(generator());
    // The largest halves would drown the others.
    for (Half& scale : scale_) scale = kHalves[generator() % 7];
    for (Half& minimum : minimum_) minimum = kHalves[generator() % 7];
    Pack();
  }

  // Channel 0, block 0.
  void SetFirstScale(Half scale) {
    scale_[0] = scale;
    Pack();
  }

  BlockMatrix view() const { return {n_, k_, form_, packed_.get()}; }
  int code(int64_t c, int64_t i) const { return codes_[c * k_ + i]; }
  // The scale of input i.
  double scale(int64_t c, int64_t i) const {
    const int64_t at = c * k_ + i;
    if (!form_.two_levels) return scale_[at / form_.scale_inputs()].value;
    const uint8_t byte = sub_scale_[at / form_.scale_inputs()];
    return double{scale_[at / 256].value} *
           (form_.bits == 6 ? int{static_cast<int8_t>(byte)} : int{byte});
  }
  double minimum(int64_t c, int64_t i) const {
    const int64_t at = c * k_ + i;
    if (!form_.two_levels) return minimum_[at / 32].value;
    return -double{minimum_[at / 256].value} * sub_minimum_[at / 32];
  }

 private:
  struct Delete {
    void operator()(uint8_t* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
  };

  void Pack() {
    const size_t size = PackedBlockBytes(n_, k_, form_);
    packed_.reset(static_cast<uint8_t*>(::operator new[](size, std::align_val_t{64})));
    std::memset(packed_.get(), 0, size);
    std::vector<uint16_t> scales, minima;
    for (const Half& scale : scale_) scales.push_back(scale.bits);
    for (const Half& minimum : minimum_) minima.push_back(minimum.bits);
    for (int64_t c = 0; c < n_; ++c) {
      BlockChannel channel{.codes = codes_.data() + c * k_,
                           .scale = scales.data() + c * static_cast<int64_t>(scales.size()) / n_};
      if (form_.has_minimum()) {
        channel.minimum = minima.data() + c * static_cast<int64_t>(minima.size()) / n_;
      }
      if (form_.two_levels) channel.sub_scale = sub_scale_.data() + c * k_ / form_.scale_inputs();
      if (form_.two_levels && form_.has_minimum()) {
        channel.sub_minimum = sub_minimum_.data() + c * k_ / 32;
      }
      ASSERT_EQ(PackBlockChannel(channel, c, n_, k_, form_, packed_.get()), LaunchStatus::kOk);
    }
  }

  int64_t n_, k_;
  BlockForm form_;
  std::vector<int8_t> codes_;
  std::vector<uint8_t> sub_scale_, sub_minimum_;
  std::vector<Half> scale_, minimum_;
  std::unique_ptr<uint8_t[], Delete> packed_;
};

// One block of activations as documented: 8 bits, one scale.
struct QuantizedBlock {
  int q[32] = {};
  float scale = 0;
};

QuantizedBlock Quantize(const float* x) {
  QuantizedBlock block;
  float max = 0;
  for (int i = 0; i < 32; ++i) max = std::max(max, std::fabs(x[i]));
  if (max < 0x1p-100f) return block;
  const volatile float inverse = 127.0f / max;
  for (int i = 0; i < 32; ++i) {
    const volatile float scaled = x[i] * inverse;
    block.q[i] = static_cast<int>(std::nearbyint(scaled));
  }
  block.scale = max / 127.0f;
  return block;
}

// The result of BlockLinear in double precision, and the sum of the magnitudes it adds up.
struct Reference {
  std::vector<double> y, magnitude;
};

Reference Expected(const std::vector<float>& x, int64_t m, const Matrix& w) {
  const int64_t n = w.view().n, k = w.view().k;
  Reference reference{std::vector<double>(m * n), std::vector<double>(m * n)};
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t b = 0; b < k / 32; ++b) {
      const QuantizedBlock block = Quantize(x.data() + row * k + b * 32);
      int64_t x_sum = 0;
      for (int q : block.q) x_sum += q;
      for (int64_t c = 0; c < n; ++c) {
        double& y = reference.y[row * n + c];
        double& magnitude = reference.magnitude[row * n + c];
        const auto add = [&](double term) {
          y += term;
          magnitude += std::fabs(term);
        };
        const int64_t inputs = w.view().form.scale_inputs();
        for (int64_t first = 0; first < 32; first += inputs) {
          int64_t sum = 0;
          for (int64_t i = first; i < first + inputs; ++i) {
            sum += int64_t{block.q[i]} * w.code(c, b * 32 + i);
          }
          add(double(sum) * w.scale(c, b * 32 + first) * block.scale);
        }
        if (w.view().form.has_minimum()) {
          add(w.minimum(c, b * 32) * block.scale * double(x_sum));
        }
      }
    }
  }
  return reference;
}

class BlockLinearTest : public testing::TestWithParam<std::tuple<Isa, BlockForm>> {
 protected:
  void SetUp() override {
    if (isa() > BestIsa()) GTEST_SKIP() << "this CPU lacks " << ToString(isa());
  }
  Isa isa() const { return std::get<0>(GetParam()); }
  BlockForm form() const { return std::get<1>(GetParam()); }
  // At least `inputs`, as the form asks.
  int64_t Width(int64_t inputs) const {
    return form().two_levels ? (inputs + 255) / 256 * 256 : inputs;
  }
  ExecutionContext Context(int threads = 1) const {
    ExecutionContext context;
    context.num_threads = threads;
    context.isa = isa();
    return context;
  }
  std::vector<float> Run(const std::vector<float>& x, int64_t m, const Matrix& w,
                         int threads = 1) const {
    const BlockMatrix view = w.view();
    std::vector<float> y(m * view.n, std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(Multiply({.x = x.data(), .m = m, .stride = view.k}, view, y.data(), view.n, false,
                       Context(threads)),
              LaunchStatus::kOk);
    return y;
  }
  // BlockLinear of a stack of one.
  static LaunchStatus Multiply(const LinearInput& input, const BlockMatrix& w, float* y,
                               int64_t y_stride, bool accumulate, const ExecutionContext& context) {
    return BlockLinear(input, {&w, 1}, y, y_stride, accumulate, context);
  }
  // The integer sums are exact. Each block adds two terms to the total, and a term is rounded at
  // most five times in single precision.
  void ExpectClose(const std::vector<float>& y, const Reference& reference, int64_t blocks) {
    const double u = std::ldexp(1.0, -24);
    for (size_t i = 0; i < y.size(); ++i) {
      const double bound = (2.0 * static_cast<double>(blocks) + 5) * u * reference.magnitude[i];
      ASSERT_NEAR(y[i], reference.y[i], bound + 1e-37) << i;
    }
  }
};

TEST_P(BlockLinearTest, EqualsExactSums) {
  for (int64_t k :
       form().two_levels ? std::vector<int64_t>{256, 768} : std::vector<int64_t>{32, 64, 96, 576}) {
    for (int64_t n : {1, 15, 16, 17, 32, 33, 63, 64, 65, 130}) {
      const Matrix w(n, k, form(), static_cast<uint32_t>(n + k));
      for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 25, 72, 100}) {
        const std::vector<float> x = Normal(m * k, static_cast<uint32_t>(31 * m + k));
        ExpectClose(Run(x, m, w, 1 + m % 3), Expected(x, m, w), k / 32);
      }
    }
  }
}

// Every code and every activation has its largest value, so that an overflow of 16-bit sums shows.
TEST_P(BlockLinearTest, ExtremeCodesDoNotOverflow) {
  const int64_t k = Width(128), n = 70, m = 9;
  const Matrix w(n, k, form(), 5, /*extreme=*/true);
  std::mt19937 generator(3);
  std::vector<float> x(m * k);
  for (float& value : x) value = generator() % 2 ? 4.0f : -4.0f;
  std::fill_n(x.begin(), k, 4.0f);
  std::fill_n(x.begin() + k, k, -4.0f);
  ExpectClose(Run(x, m, w), Expected(x, m, w), k / 32);
}

TEST_P(BlockLinearTest, RowDependsOnThatRowAlone) {
  const int64_t m = 60, n = 200, k = Width(320);
  const Matrix w(n, k, form());
  const std::vector<float> x = Normal(m * k, 6);
  const std::vector<float> together = Run(x, m, w);
  for (int threads : {2, 3, 7}) EXPECT_EQ(Run(x, m, w, threads), together) << threads;
  for (int64_t rows : {1, 2, 5, 7, 12, 31}) {
    for (int64_t row = 0; row + rows <= m; row += rows) {
      const std::vector<float> part(x.begin() + row * k, x.begin() + (row + rows) * k);
      const std::vector<float> y = Run(part, rows, w, 2);
      ASSERT_TRUE(std::equal(y.begin(), y.end(), together.begin() + row * n))
          << rows << " rows from " << row;
    }
  }
}

TEST_P(BlockLinearTest, SeveralPanelsOfRows) {
  const int64_t m = 700, n = 33, k = 1536;
  const Matrix w(n, k, form());
  const std::vector<float> x = Normal(m * k, 2);
  ExpectClose(Run(x, m, w, 2), Expected(x, m, w), k / 32);
}

TEST_P(BlockLinearTest, StridesAndAccumulate) {
  const int64_t m = 9, n = 77, k = Width(64), x_stride = k + 6, y_stride = 90;
  const Matrix w(n, k, form());
  const std::vector<float> dense = Normal(m * k, 9);
  std::vector<float> x(m * x_stride, 1e30f);  // the floats between rows must not be read
  for (int64_t i = 0; i < m; ++i) {
    std::copy_n(dense.begin() + i * k, k, x.begin() + i * x_stride);
  }
  const std::vector<float> before = Normal(m * y_stride, 10), product = Run(dense, m, w);
  std::vector<float> y = before;
  ASSERT_EQ(Multiply({.x = x.data(), .m = m, .stride = x_stride}, w.view(), y.data(), y_stride,
                     true, Context(2)),
            LaunchStatus::kOk);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t c = 0; c < y_stride; ++c) {
      const float old = before[i * y_stride + c];
      ASSERT_EQ(y[i * y_stride + c], c < n ? old + product[i * n + c] : old) << i << ", " << c;
    }
  }
}

TEST_P(BlockLinearTest, NotFiniteStaysInItsRowOrChannel) {
  const int64_t n = 20, k = Width(64);
  Matrix w(n, k, form());
  std::vector<float> x = Normal(3 * k, 16);
  const std::vector<float> clean = Run(x, 3, w);
  w.SetFirstScale({0x7E00, std::numeric_limits<float>::quiet_NaN()});
  x[0 * k + 40] = std::numeric_limits<float>::quiet_NaN();
  x[2 * k + 1] = -std::numeric_limits<float>::infinity();
  for (int64_t rows : {1, 3}) {
    const std::vector<float> y = Run(x, rows, w);
    for (int64_t c = 0; c < n; ++c) EXPECT_TRUE(std::isnan(y[c])) << c;
  }
  const std::vector<float> y = Run(x, 3, w);
  for (int64_t c = 0; c < n; ++c) {
    EXPECT_TRUE(c == 0 ? std::isnan(y[n]) : y[n + c] == clean[n + c]) << c;
    EXPECT_TRUE(std::isnan(y[2 * n + c])) << c;
  }
}

TEST_P(BlockLinearTest, ZeroAndTinyBlocksCountAsZeros) {
  const int64_t n = 20, k = Width(64);
  const Matrix w(n, k, form());
  std::vector<float> x(2 * k, 0.0f);
  for (int64_t i = 0; i < k; ++i) x[k + i] = 1e-38f;
  for (const float value : Run(x, 2, w)) EXPECT_EQ(value, 0.0f);
}

TEST_P(BlockLinearTest, StepsOnTheWayInEqualTheirKernels) {
  const int64_t k = Width(96), n = 70;
  const Matrix w(n, k, form());
  const std::vector<float> gain = Normal(k, 8);
  for (const int64_t rows : {1, 5, 150}) {
    const std::vector<float> x = Normal(rows * 2 * k, 34);
    std::vector<float> normed(rows * k), activated(rows * k), got(rows * n);
    for (int64_t row = 0; row < rows; ++row) {
      ASSERT_EQ(RmsNorm(x.data() + row * 2 * k, 1, k, gain.data(), 0.01f, normed.data() + row * k,
                        Context()),
                LaunchStatus::kOk);
    }
    ASSERT_EQ(Activate(FfnActivation::kSilu, x.data(), 2 * k, x.data() + k, 2 * k, rows, k,
                       activated.data(), k, Context()),
              LaunchStatus::kOk);
    LinearInput input{.x = x.data(), .m = rows, .stride = 2 * k};
    input.step = LinearInput::Step::kRmsNorm;
    input.rms_eps = 0.01f;
    input.rms_weight = gain.data();
    ASSERT_EQ(Multiply(input, w.view(), got.data(), n, false, Context(2)), LaunchStatus::kOk);
    EXPECT_EQ(got, Run(normed, rows, w));
    input.step = LinearInput::Step::kGated;
    ASSERT_EQ(Multiply(input, w.view(), got.data(), n, false, Context(2)), LaunchStatus::kOk);
    EXPECT_EQ(got, Run(activated, rows, w));
  }
}

// Matrices of all forms at once: each has the results that it has alone.
TEST_P(BlockLinearTest, StackOfMatricesEqualsEachAlone) {
  const int64_t k = 512;
  std::vector<Matrix> matrices;
  matrices.emplace_back(70, k, form(), 1);
  for (const BlockForm other : kForms) {
    matrices.emplace_back(other.bits == 5 ? 128 : 33, k, other, 2);
  }
  std::vector<BlockMatrix> stack;
  int64_t n = 0;
  for (const Matrix& matrix : matrices) {
    stack.push_back(matrix.view());
    n += matrix.view().n;
  }
  for (const int64_t m : {1, 3, 40, 100}) {
    const std::vector<float> x = Normal(m * k, 12);
    const LinearInput input{.x = x.data(), .m = m, .stride = k};
    for (const int threads : {1, 2, 5}) {
      std::vector<float> y(m * n, std::numeric_limits<float>::quiet_NaN());
      ASSERT_EQ(BlockLinear(input, stack, y.data(), n, false, Context(threads)), LaunchStatus::kOk);
      int64_t first = 0;
      for (const Matrix& matrix : matrices) {
        const int64_t channels = matrix.view().n;
        const std::vector<float> alone = Run(x, m, matrix);
        for (int64_t row = 0; row < m; ++row) {
          ASSERT_TRUE(std::equal(alone.begin() + row * channels,
                                 alone.begin() + (row + 1) * channels, y.begin() + row * n + first))
              << row << " of " << m << ", channels from " << first;
        }
        first += channels;
      }
    }
  }
  std::vector<float> y(n);
  const std::vector<float> x = Normal(k, 12);
  const LinearInput input{.x = x.data(), .m = 1, .stride = k};
  EXPECT_EQ(BlockLinear(input, {}, y.data(), n, false, Context()), LaunchStatus::kBadShape);
  EXPECT_EQ(BlockLinear(input, stack, y.data(), n - 1, false, Context()), LaunchStatus::kBadShape);
  stack[1].k = 256;
  EXPECT_EQ(BlockLinear(input, stack, y.data(), n, false, Context()), LaunchStatus::kBadShape);
}

TEST_P(BlockLinearTest, BadArguments) {
  const int64_t n = 8, k = Width(32);
  const Matrix w(n, k, form());
  const std::vector<float> x = Normal(2 * k, 20);
  std::vector<float> y(2 * n);
  const auto run = [&](LinearInput input, BlockMatrix matrix, float* out, int64_t y_stride,
                       ExecutionContext context) {
    return Multiply(input, matrix, out, y_stride, false, context);
  };
  const LinearInput good{.x = x.data(), .m = 2, .stride = k};
  const BlockMatrix view = w.view();
  EXPECT_EQ(run(good, view, y.data(), n, Context()), LaunchStatus::kOk);
  EXPECT_EQ(run({.x = x.data(), .m = -1, .stride = k}, view, y.data(), n, Context()),
            LaunchStatus::kBadShape);
  EXPECT_EQ(run({.x = x.data(), .m = 2, .stride = k - 1}, view, y.data(), n, Context()),
            LaunchStatus::kBadShape);
  EXPECT_EQ(run({.x = nullptr, .m = 2, .stride = k}, view, y.data(), n, Context()),
            LaunchStatus::kBadArgument);
  EXPECT_EQ(run(good, view, y.data(), n - 1, Context()), LaunchStatus::kBadShape);
  EXPECT_EQ(run(good, view, nullptr, n, Context()), LaunchStatus::kBadArgument);
  EXPECT_EQ(run(good, view, y.data(), n, Context(0)), LaunchStatus::kBadArgument);
  const auto with = [&](auto change) {
    BlockMatrix bad = view;
    change(bad);
    return run(good, bad, y.data(), n, Context());
  };
  EXPECT_EQ(with([](BlockMatrix& b) { b.n = 0; }), LaunchStatus::kBadShape);
  EXPECT_EQ(with([](BlockMatrix& b) { b.k = 33; }), LaunchStatus::kBadShape);
  EXPECT_EQ(with([](BlockMatrix& b) { b.k = kBlockMaxInputs + 32; }), LaunchStatus::kBadShape);
  EXPECT_EQ(with([](BlockMatrix& b) { b.form.bits = 7; }), LaunchStatus::kBadShape);
  EXPECT_EQ(with([](BlockMatrix& b) { b.packed += 1; }), LaunchStatus::kBadArgument);
  EXPECT_EQ(with([](BlockMatrix& b) { b.packed = nullptr; }), LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(All, BlockLinearTest,
                         testing::Combine(testing::ValuesIn(AllIsas()), testing::ValuesIn(kForms)),
                         [](const auto& info) {
                           return std::string(ToString(std::get<0>(info.param))) + "_" +
                                  NameOf(std::get<1>(info.param));
                         });

TEST(PackBlockChannelTest, BadArguments) {
  std::vector<uint8_t> packed(PackedBlockBytes(3, 512, {8}));
  std::vector<int8_t> codes(512, 15);
  const std::vector<uint16_t> halves(32);
  const std::vector<uint8_t> bytes(32);
  const auto channel_of = [&](BlockForm form) {
    BlockChannel channel{.codes = codes.data(), .scale = halves.data()};
    if (form.has_minimum()) channel.minimum = halves.data();
    if (form.two_levels) channel.sub_scale = bytes.data();
    if (form.two_levels && form.has_minimum()) channel.sub_minimum = bytes.data();
    return channel;
  };
  const auto pack = [&](BlockChannel channel, int64_t index, int64_t k, BlockForm form) {
    return PackBlockChannel(channel, index, 3, k, form, packed.data());
  };
  const BlockChannel good = channel_of({4});
  EXPECT_EQ(pack(good, 2, 64, {4}), LaunchStatus::kOk);
  EXPECT_EQ(pack(good, 3, 64, {4}), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(good, -1, 64, {4}), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(good, 0, 48, {4}), LaunchStatus::kBadShape);
  EXPECT_EQ(pack(good, 0, 64, {4, true}), LaunchStatus::kBadShape);
  for (const BlockForm bad : {BlockForm{7}, {6}, {8, true}}) {
    EXPECT_EQ(pack(channel_of(bad), 0, 256, bad), LaunchStatus::kBadShape) << NameOf(bad);
  }
  for (const BlockForm form : kForms) {
    SCOPED_TRACE(NameOf(form));
    BlockChannel channel = channel_of(form);
    EXPECT_EQ(pack(channel, 0, 512, form), LaunchStatus::kOk);
    channel.codes = nullptr;
    EXPECT_EQ(pack(channel, 0, 512, form), LaunchStatus::kBadArgument);
    // A field that the form has is missing, or one that it has not is there.
    channel = channel_of(form);
    channel.minimum = form.has_minimum() ? nullptr : halves.data();
    EXPECT_EQ(pack(channel, 0, 512, form), LaunchStatus::kBadArgument);
    channel = channel_of(form);
    channel.sub_scale = form.two_levels ? nullptr : bytes.data();
    EXPECT_EQ(pack(channel, 0, 512, form), LaunchStatus::kBadArgument);
    channel = channel_of(form);
    channel.sub_minimum = channel.sub_minimum != nullptr ? nullptr : bytes.data();
    EXPECT_EQ(pack(channel, 0, 512, form), LaunchStatus::kBadArgument);
    if (form.bits == 8) continue;
    const int lowest = form.has_minimum() ? 0 : -32, highest = lowest + (1 << form.bits) - 1;
    for (const int code : {lowest, highest, lowest - 1, highest + 1}) {
      codes[511] = static_cast<int8_t>(code);
      const bool fits = lowest <= code && code <= highest;
      EXPECT_EQ(pack(channel_of(form), 0, 512, form),
                fits ? LaunchStatus::kOk : LaunchStatus::kBadArgument)
          << code;
    }
    codes[511] = 0;
  }
}

}  // namespace
}  // namespace lectern::kernels
