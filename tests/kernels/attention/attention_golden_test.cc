// Reproduces golden/topk_attention and golden/topk_tail_mean on every instruction set of this
// machine.
#include <gtest/gtest.h>

#include <set>

#include "kernels/attention/dense_attention.h"
#include "kernels/attention/topk_attention.h"
#include "tests/kernels/attention/paged_sequence.h"
#include "tests/testing/golden.h"

namespace lectern::kernels {
namespace {

using test::GoldenCase;
using test::GoldenTensor;
using test::GoldenTensors;

struct Run {
  std::string family;
  Isa isa;
};

class AttentionGoldenTest : public testing::TestWithParam<Run> {};

// Converts [heads, tokens, width] of batch entry b to [tokens, heads, width].
std::vector<float> TokenMajor(const GoldenTensor& t, int64_t b) {
  const int64_t heads = t.shape[1], tokens = t.shape[2], width = t.shape[3];
  std::vector<float> out(heads * tokens * width);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < tokens; ++i) {
      const float* from = t.f32.data() + ((b * heads + h) * tokens + i) * width;
      std::copy(from, from + width, out.data() + (i * heads + h) * width);
    }
  }
  return out;
}

struct Output {
  std::vector<float> o, mass;
  std::vector<int32_t> index;
  std::vector<float> weight;
};

class CaseRunner {
 public:
  CaseRunner(const GoldenCase& c, Isa isa)
      : case_(c), data_(c.Load()), q_(data_["q"]), k_(data_["k"]), v_(data_["v"]) {
    context_.isa = isa;
    context_.num_threads = 2;
    layout_ = {.type = KvType::kF32,
               .num_layers = 1,
               .num_kv_heads = static_cast<int>(k_.shape[1]),
               .head_dim = static_cast<int>(q_.shape[3]),
               .value_dim = static_cast<int>(v_.shape[3])};
  }

  void CheckAll(bool tail_mean) {
    for (const auto& k : case_.params["k"]) {
      for (int64_t b = 0; b < q_.shape[0]; ++b) Check(k.get<int64_t>(), b, tail_mean);
    }
  }

 private:
  int64_t rows() const { return q_.shape[2]; }
  int64_t heads() const { return q_.shape[1]; }
  int64_t keys() const { return k_.shape[2]; }

  Output Compute(int64_t k, int64_t b, Tail tail) {
    PagedSequence sequence(layout_, keys());
    const std::vector<float> keys_b = TokenMajor(k_, b), values_b = TokenMajor(v_, b);
    const std::vector<float> queries = TokenMajor(q_, b);
    EXPECT_TRUE(Ok(sequence.Append(0, 0, keys(), keys_b.data(), values_b.data())));
    Output out;
    out.o.resize(rows() * heads() * layout_.value_dim);
    out.mass.resize(rows() * heads());
    const auto& p = case_.params;
    AttentionArgs args{.q = queries.data(),
                       .q_stride = heads() * layout_.head_dim,
                       .rows = rows(),
                       .num_q_heads = static_cast<int>(heads()),
                       .q_offset = p["q_offset"].get<int64_t>(),
                       .layout = layout_,
                       .table = sequence.Table(keys()),
                       .scale = p["scale"].get<float>(),
                       .causal = p["causal"].get<bool>()};
    if (p.contains("window") && !p["window"].is_null()) args.window = p["window"].get<int64_t>();
    if (data_.Has("key_padding")) args.key_padding = data_["key_padding"].u8.data() + b * keys();
    std::vector<float> bias;
    if (data_.Has("bias")) {
      const GoldenTensor& t = data_["bias"];
      const int64_t batch_entry = t.shape[0] == 1 ? 0 : b;
      args.bias = t.f32.data() + batch_entry * t.shape[1] * t.shape[2] * keys();
      args.bias_head_stride = t.shape[1] == 1 ? 0 : t.shape[2] * keys();
      args.bias_row_stride = t.shape[2] == 1 ? 0 : keys();
    }
    args.out = out.o.data();
    args.out_stride = heads() * layout_.value_dim;
    args.kept_mass = out.mass.data();
    if (k <= 0) {
      EXPECT_TRUE(Ok(DenseAttention({&args, 1}, context_)));
      return out;
    }
    out.index.resize(rows() * heads() * k);
    out.weight.resize(rows() * heads() * k);
    const TopKParams params{
        .k = k, .tail = tail, .kept_index = out.index.data(), .kept_weight = out.weight.data()};
    EXPECT_TRUE(Ok(TopKAttention({&args, 1}, params, context_)));
    return out;
  }

  void Check(int64_t k, int64_t b, bool tail_mean) {
    SCOPED_TRACE("k = " + std::to_string(k) + ", batch entry " + std::to_string(b));
    const bool dense = k <= 0 || k >= keys();
    const std::string suffix = dense ? ".dense" : ".k" + std::to_string(k);
    if (!data_.Has("o" + suffix)) return;
    const Output got = Compute(k, b, tail_mean ? Tail::kMean : Tail::kNone);
    ExpectNear("o" + suffix, b, got.o, layout_.value_dim);
    if (dense) return;
    ExpectNear("mass" + suffix, b, got.mass, 1);
    if (data_.Has("index" + suffix)) ExpectSameKeys(suffix, b, got.index, k);
  }

  void ExpectNear(const std::string& name, int64_t b, const std::vector<float>& got,
                  int64_t width) {
    const GoldenTensor& want = data_[name];
    std::vector<double> want_token_major(got.size());
    for (int64_t h = 0; h < heads(); ++h) {
      for (int64_t i = 0; i < rows(); ++i) {
        for (int64_t c = 0; c < width; ++c) {
          want_token_major[(i * heads() + h) * width + c] =
              want.f64[((b * heads() + h) * rows() + i) * width + c];
        }
      }
    }
    EXPECT_EQ(test::CompareValues(got, want_token_major, case_.ToleranceOf(name)), "") << name;
  }

  // Sets per row; a legal swap needs a margin below what fp32 scores can tell apart.
  void ExpectSameKeys(const std::string& suffix, int64_t b, const std::vector<int32_t>& got,
                      int64_t k) {
    const GoldenTensor& want = data_["index" + suffix];
    const GoldenTensor& margin = data_["margin" + suffix];
    for (int64_t h = 0; h < heads(); ++h) {
      for (int64_t i = 0; i < rows(); ++i) {
        const int64_t at = (b * heads() + h) * rows() + i;
        if (margin.f32[at] > 0 && margin.f32[at] < 1e-5f) continue;
        const int32_t* w = want.i32.data() + at * k;
        const int32_t* g = got.data() + (i * heads() + h) * k;
        EXPECT_EQ(std::multiset<int32_t>(g, g + k), std::multiset<int32_t>(w, w + k))
            << "row " << i << " head " << h;
      }
    }
  }

  const GoldenCase& case_;
  GoldenTensors data_;
  const GoldenTensor& q_;
  const GoldenTensor& k_;
  const GoldenTensor& v_;
  KvPageLayout layout_;
  ExecutionContext context_;
};

TEST_P(AttentionGoldenTest, Reproduces) {
  if (GetParam().isa > BestIsa()) GTEST_SKIP() << "this CPU has no " << ToString(GetParam().isa);
  const std::vector<GoldenCase> cases = test::GoldenCases(GetParam().family);
  LECTERN_REQUIRE_FILE(!cases.empty(), GetParam().family + "/cases.json");
  for (const GoldenCase& c : cases) {
    SCOPED_TRACE(c.name);
    CaseRunner(c, GetParam().isa).CheckAll(GetParam().family == "topk_tail_mean");
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionGoldenTest,
    testing::Values(Run{"topk_attention", Isa::kPortable}, Run{"topk_attention", Isa::kAvx2},
                    Run{"topk_attention", Isa::kAvx512}, Run{"topk_tail_mean", Isa::kPortable},
                    Run{"topk_tail_mean", Isa::kAvx2}, Run{"topk_tail_mean", Isa::kAvx512}),
    [](const testing::TestParamInfo<Run>& info) {
      return info.param.family + "_" + ToString(info.param.isa);
    });

}  // namespace
}  // namespace lectern::kernels
