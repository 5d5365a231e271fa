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

// A model of each of the numerics, loaded once for all tests of a file.
std::shared_ptr<const Model> Load(const DecoderFile& file, Numerics numerics) {
  static std::string last;
  static std::map<Numerics, std::shared_ptr<const Model>> models;
  if (last != file.name) models.clear();
  last = file.name;
  std::shared_ptr<const Model>& model = models[numerics];
  if (model != nullptr) return model;
  auto loaded =
      LoadModel({.name = file.name, .path = file.path, .numerics = numerics, .threads = 2});
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  if (loaded.ok()) model = *loaded;
  return model;
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

}  // namespace

INSTANTIATE_TEST_SUITE_P(All, DecoderGoldenTest, ::testing::ValuesIn(DecoderFiles()),
                         [](const auto& info) { return info.param.name; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DecoderGoldenTest);

TEST(DecoderGoldenFilesTest, ArePresent) {
  LECTERN_REQUIRE_FILE(!DecoderFiles().empty(), "golden cases of decoders");
}

}  // namespace lectern::test
