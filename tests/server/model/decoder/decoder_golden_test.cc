// Every decoder of tests/golden/decoders, from safetensors and from GGUF, against transformers in
// double precision: logits, greedy continuations and top-k attention in fp32, the distance of the
// serving numerics from them, and what holds for every family: slices and batches do not change
// bits, evidence and kept mass are shares of a softmax, feed-forward units can be cut.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "server/model/loading/model_loader.h"
#include "tests/server/model/decoder/decoder_files.h"
#include "tests/server/model/invariance.h"

namespace lectern::test {
namespace {

using Numerics = ModelLoadOptions::Numerics;

std::shared_ptr<const Model> Load(const DecoderFile& file, Numerics numerics) {
  auto model = LoadModel({.name = file.name,
                          .path = file.path,
                          .numerics = numerics,
                          .threads = 1,
                          .settings = {.context_length = file.context_length}});
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

double Allowed(const Tolerance& tolerance, double want) {
  return tolerance.atol + tolerance.rtol * std::abs(want);
}

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Logits [positions, vocabulary].
struct PromptLogits {
  std::vector<float> values;
  int64_t vocabulary;
  std::span<const float> At(int64_t position) const {
    return {values.data() + position * vocabulary, static_cast<size_t>(vocabulary)};
  }
};

PromptLogits Compute(const Model& model, const DecoderFile& file, const AttentionPolicy& policy,
                     int64_t slice_tokens) {
  Sequence sequence(model, policy);
  return {AllLogits(model, sequence, file.prompt, slice_tokens), model.info().vocabulary};
}

void ExpectNear(std::span<const float> got, const std::vector<double>& want, int64_t id_step,
                const Tolerance& tolerance) {
  std::vector<float> of_ids;
  for (size_t id = 0; id < got.size(); id += id_step) of_ids.push_back(got[id]);
  EXPECT_EQ(CompareValues(of_ids, want, tolerance), "");
}

// The argmax wherever the tolerance decides it: the expected id may be below the best of ours by
// the errors of both.
void ExpectArgMax(const PromptLogits& got, const DecoderVariant& want) {
  for (size_t position = 0; position < want.argmax.size(); ++position) {
    const auto logits = got.At(static_cast<int64_t>(position));
    const float best = logits[ArgMax(logits)], expected = logits[want.argmax[position]];
    EXPECT_LE(best - expected, 2 * Allowed(want.tolerance, best)) << "position " << position;
  }
}

class DecoderGoldenTest : public ::testing::TestWithParam<DecoderFile> {
 protected:
  const DecoderFile& file() const { return GetParam(); }
};

TEST_P(DecoderGoldenTest, LogitsMatchDoublePrecision) {
  const auto model = Load(file(), Numerics::kF32);
  ASSERT_NE(model, nullptr);
  const auto tokens = static_cast<int64_t>(file().prompt.size());
  for (const DecoderVariant& variant : file().variants) {
    // Whole, in slices that no page divides, and token by token, as an answer is decoded.
    for (const int64_t slice : {tokens, int64_t{7}, int64_t{1}}) {
      SCOPED_TRACE(variant.name + " in slices of " + std::to_string(slice));
      const PromptLogits got = Compute(*model, file(), variant.policy, slice);
      for (size_t i = 0; i < variant.positions.size(); ++i) {
        SCOPED_TRACE("position " + std::to_string(variant.positions[i]));
        ExpectNear(got.At(variant.positions[i]), variant.logits[i], variant.id_step,
                   variant.tolerance);
      }
      if (!variant.last_logits.empty()) {
        ExpectNear(got.At(tokens - 1), variant.last_logits, 1, variant.tolerance);
      }
      ExpectArgMax(got, variant);
    }
  }
}

TEST_P(DecoderGoldenTest, GreedyIdsMatch) {
  const auto model = Load(file(), Numerics::kF32);
  ASSERT_NE(model, nullptr);
  for (const DecoderVariant& variant : file().variants) {
    SCOPED_TRACE(variant.name);
    Sequence sequence(*model, variant.policy);
    const auto steps = static_cast<int64_t>(variant.greedy_ids.size());
    const Continuation got = Greedy(*model, sequence, file().prompt, steps);
    for (int64_t step = 0; step < steps; ++step) {
      // Both logits may be off, and ids after a step that the tolerance does not decide differ.
      if (variant.margin[step] <= 4 * variant.tolerance.atol) break;
      ASSERT_EQ(got.ids[step], variant.greedy_ids[step]) << "step " << step;
    }
  }
}

// Models with equal fingerprints share pages, also after they were loaded with another context
// length, on which the rotation of keys may depend.
TEST_P(DecoderGoldenTest, FingerprintsAreEqualIfPagesAre) {
  DecoderFile shorter = file();
  shorter.context_length = static_cast<int64_t>(file().prompt.size());
  const auto one = Load(file(), Numerics::kF32), other = Load(shorter, Numerics::kF32);
  ASSERT_NE(one, nullptr);
  ASSERT_NE(other, nullptr);
  Sequence pages(*one), other_pages(*other);
  Feed(*one, pages, file().prompt);
  Feed(*other, other_pages, file().prompt);
  bool equal = true;
  for (size_t i = 0; i < pages.pages().size(); ++i) {
    equal =
        equal && std::memcmp(pages.pages()[i], other_pages.pages()[i], one->info().page_bytes) == 0;
  }
  EXPECT_EQ(one->info().fingerprint == other->info().fingerprint, equal);
}

// How far the serving numerics are from fp32, over all positions of the prompt.
struct Distance {
  double mean = 0;        // absolute difference of a logit
  double spread = 0;      // standard deviation of the fp32 logits
  double agreement = 0;   // share of the positions with the same argmax
  double worst_miss = 0;  // the largest fp32 margin of an argmax that is missed
};

Distance DistanceOf(const PromptLogits& got, const PromptLogits& want) {
  const auto positions = static_cast<int64_t>(got.values.size()) / got.vocabulary;
  const auto count = static_cast<double>(got.values.size());
  Distance distance;
  double sum = 0, squares = 0;
  for (size_t i = 0; i < got.values.size(); ++i) {
    const double value = want.values[i];
    distance.mean += std::abs(got.values[i] - value) / count;
    sum += value / count;
    squares += value * value / count;
  }
  distance.spread = std::sqrt(squares - sum * sum);
  for (int64_t position = 0; position < positions; ++position) {
    const auto expected = want.At(position);
    const int32_t best = ArgMax(expected), chosen = ArgMax(got.At(position));
    distance.agreement += (best == chosen ? 1.0 : 0.0) / static_cast<double>(positions);
    distance.worst_miss = std::max<double>(distance.worst_miss, expected[best] - expected[chosen]);
  }
  return distance;
}

// The mean difference that rounding is expected to make, as a share of the spread.
//
// A row of a few dozen values whose largest is 2.5 times their root mean square is rounded to 8
// bits with a relative error of 2.5 / 127 / sqrt(12) = 0.6 %. A layer rounds a dozen times in a
// row: inputs and weights of four products, keys and values. Errors are independent and pass the
// norms as a share of the stream, so they add as squares, from layer to layer as well. The mean of
// normal magnitudes is 0.8 deviations. AVX2 rounds activations, half of all, to 7 bits.
double ExpectedDifference(const Model& model) {
  const double roundings = kernels::DefaultIsa() == kernels::Isa::kAvx2 ? 6 + 6 * 4 : 12;
  return 0.8 * 0.006 * std::sqrt(roundings * model.info().layers);
}

void ExpectCloseToF32(const DecoderFile& file, Numerics numerics) {
  const auto f32 = Load(file, Numerics::kF32), model = Load(file, numerics);
  ASSERT_NE(f32, nullptr);
  ASSERT_NE(model, nullptr);
  const auto tokens = static_cast<int64_t>(file.prompt.size());
  const AttentionPolicy exact = AttentionPolicy::Exact();
  const Distance distance =
      DistanceOf(Compute(*model, file, exact, tokens), Compute(*f32, file, exact, tokens));
  const double difference = distance.mean / distance.spread;
  std::printf("%s: mean difference %.1f %% of the spread, agree %.3f, largest miss %.3f\n",
              model->info().numerics.c_str(), 100 * difference, distance.agreement,
              distance.worst_miss);
  // Softmax and the gate's product enlarge errors where scores and units are large.
  EXPECT_LE(difference, 3 * ExpectedDifference(*model));
  // The best of some hundred normal logits leads the second by 0.3 of the spread in the mean,
  // distributed about exponentially. A mean error m turns the two around where the lead is less
  // than the difference of their errors: at 2.4 m / spread of the positions. Twice that, and two
  // deviations of such a count over a hundred positions, are allowed.
  EXPECT_GE(distance.agreement, 0.96 - 5 * difference);
  // Nine deviations of a logit's error, which varies with the position.
  EXPECT_LE(distance.worst_miss, 12 * distance.mean);
}

TEST_P(DecoderGoldenTest, Int8IsCloseToF32) { ExpectCloseToF32(file(), Numerics::kInt8Rotated); }

TEST_P(DecoderGoldenTest, BlocksAreCloseToF32) {
  if (file().quantised) ExpectCloseToF32(file(), Numerics::kBlocks);
}

// The numerics that can load a file.
std::vector<Numerics> NumericsOf(const DecoderFile& file) {
  std::vector<Numerics> numerics = {Numerics::kF32, Numerics::kInt8Rotated};
  if (file.quantised) numerics.push_back(Numerics::kBlocks);
  return numerics;
}

// Those with expected results, top-k attention over one page besides the sinks, and half of the
// feed-forward units.
std::vector<AttentionPolicy> PoliciesOf(const DecoderFile& file, const Model& model) {
  std::vector<AttentionPolicy> policies;
  for (const DecoderVariant& variant : file.variants) policies.push_back(variant.policy);
  policies.push_back({.top_k = 9, .layer_k = {}, .page_budget = 1});
  AttentionPolicy units = AttentionPolicy::Exact();
  units.ffn_top_k = model.info().ffn_units / 2;
  policies.push_back(units);
  return policies;
}

TEST_P(DecoderGoldenTest, SlicesDoNotChangeBits) {
  for (const Numerics numerics : NumericsOf(file())) {
    const auto model = Load(file(), numerics);
    ASSERT_NE(model, nullptr);
    for (const AttentionPolicy& policy : PoliciesOf(file(), *model)) {
      Sequence whole(*model, policy);
      const Outputs want = Feed(*model, whole, file().prompt);
      for (const int64_t slice : {33, 1}) {
        SCOPED_TRACE(model->info().numerics + " in slices of " + std::to_string(slice));
        Sequence cut(*model, policy);
        const Outputs got = Feed(*model, cut, file().prompt, slice);
        EXPECT_EQ(Difference(got.logits, want.logits), "");
        EXPECT_EQ(got.kept_mass.count, want.kept_mass.count);
        EXPECT_EQ(got.kept_mass.min, want.kept_mass.min);
        ExpectSamePages(*model, cut, whole);
      }
    }
  }
}

TEST_P(DecoderGoldenTest, BatchesDoNotChangeBits) {
  const std::span<const int32_t> prompt(file().prompt);
  for (const Numerics numerics : NumericsOf(file())) {
    const auto model = Load(file(), numerics);
    ASSERT_NE(model, nullptr);
    SCOPED_TRACE(model->info().numerics);
    const std::vector<AttentionPolicy> policies = PoliciesOf(file(), *model);
    // One sequence for each policy, each after another number of earlier tokens.
    std::vector<Sequence> alone, together;
    std::vector<Outputs> got(policies.size());
    std::vector<ForwardSlice> batch;
    for (size_t i = 0; i < policies.size(); ++i) {
      alone.emplace_back(*model, policies[i]);
      together.emplace_back(*model, policies[i]);
      Feed(*model, alone[i], prompt.first(11 * i));
      Feed(*model, together[i], prompt.first(11 * i));
    }
    const auto rest = [&](size_t i) { return prompt.subspan(11 * i).first(prompt.size() / 4 + i); };
    for (size_t i = 0; i < policies.size(); ++i) {
      batch.push_back(got[i].Slice(*model, together[i], rest(i)));
    }
    const auto workspace = model->NewWorkspace();
    ASSERT_TRUE(model->Forward(batch, *workspace).ok());
    for (size_t i = 0; i < policies.size(); ++i) {
      SCOPED_TRACE("sequence " + std::to_string(i));
      ExpectSame(got[i], Feed(*model, alone[i], rest(i)));
      ExpectSamePages(*model, together[i], alone[i]);
    }
  }
}

// The attention to every key of the prompt in the layers that show evidence.
std::vector<float> Evidence(const Model& model, const DecoderFile& file,
                            const AttentionPolicy& policy, bool evidence_only) {
  Sequence sequence(model, policy);
  std::vector<float> key_mass(file.prompt.size());
  std::vector<float> logits(model.info().vocabulary);
  ForwardSlice slice = sequence.Next(file.prompt);
  slice.key_mass = key_mass.data();
  slice.evidence_only = evidence_only;
  if (!evidence_only) slice.logits = logits.data();
  const auto workspace = model.NewWorkspace();
  const absl::Status status = model.Forward({&slice, 1}, *workspace);
  EXPECT_TRUE(status.ok()) << status;
  return key_mass;
}

TEST_P(DecoderGoldenTest, EvidenceIsAttention) {
  for (const Numerics numerics : NumericsOf(file())) {
    const auto model = Load(file(), numerics);
    ASSERT_NE(model, nullptr);
    SCOPED_TRACE(model->info().numerics);
    const AttentionPolicy exact = AttentionPolicy::Exact();
    const std::vector<float> mass = Evidence(*model, file(), exact, /*evidence_only=*/false);
    // Every query of every head spends one in each of the layers.
    double sum = 0;
    for (const float share : mass) {
      EXPECT_GE(share, 0);
      sum += share;
    }
    const double softmaxes = sum / static_cast<double>(mass.size());
    EXPECT_NEAR(softmaxes, std::round(softmaxes), 1e-4 * softmaxes);
    EXPECT_GE(std::round(softmaxes), 1);
    EXPECT_EQ(Difference(Evidence(*model, file(), exact, /*evidence_only=*/true), mass), "");
  }
}

TEST_P(DecoderGoldenTest, KeptMassIsAShareOfTheSoftmax) {
  for (const Numerics numerics : NumericsOf(file())) {
    const auto model = Load(file(), numerics);
    ASSERT_NE(model, nullptr);
    SCOPED_TRACE(model->info().numerics);
    double less = 0;
    for (const int64_t k : {2, 16, 1024}) {
      Sequence sequence(*model, {.top_k = k, .layer_k = {}});
      const KeptMass mass = Feed(*model, sequence, file().prompt).kept_mass;
      // One query for each head, token and layer.
      const auto tokens = static_cast<int64_t>(file().prompt.size());
      EXPECT_GT(mass.count, 0);
      EXPECT_EQ(mass.count % (tokens * model->info().layers), 0);
      const double mean = mass.sum / static_cast<double>(mass.count);
      EXPECT_GT(mass.min, 0);
      EXPECT_LE(mass.min, mean + 1e-6);
      EXPECT_GT(mean, less);
      EXPECT_LE(mean, 1 + 1e-6);
      less = mean;
    }
    EXPECT_NEAR(less, 1, 1e-6) << "nothing was left out";
  }
}

TEST_P(DecoderGoldenTest, FeedForwardUnitsCanBeCut) {
  for (const Numerics numerics : NumericsOf(file())) {
    const auto model = Load(file(), numerics);
    ASSERT_NE(model, nullptr);
    SCOPED_TRACE(model->info().numerics);
    const int64_t units = model->info().ffn_units;
    AttentionPolicy policy = AttentionPolicy::Exact();
    const auto tokens = static_cast<int64_t>(file().prompt.size());
    const PromptLogits all = Compute(*model, file(), policy, tokens);
    const auto distance = [&](int64_t kept) {
      policy.ffn_top_k = kept;
      return DistanceOf(Compute(*model, file(), policy, tokens), all).mean;
    };
    // The more are kept, the closer.
    EXPECT_EQ(distance(units), 0);
    const double most = distance(units * 7 / 8), few = distance(units / 8);
    EXPECT_GT(most, 0);
    EXPECT_LT(most, few);
  }
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(All, DecoderGoldenTest, ::testing::ValuesIn(DecoderFiles()),
                         [](const auto& info) { return info.param.name; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DecoderGoldenTest);

TEST(DecoderGoldenFilesTest, ArePresent) {
  LECTERN_REQUIRE_FILE(!DecoderFiles().empty(), "golden cases of decoders");
}

}  // namespace lectern::test
