// The tiny random T5s of tests/golden/t5_tiny against float64 results, in fp32: encoder output,
// teacher-forced logits and greedy answers, dense and with top-k in each kind of attention and in
// the feed-forward parts; and the same answers when windows and sequences share a call.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "server/formats/safetensors.h"
#include "server/model/model_files.h"
#include "server/model/t5/t5_model.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

// Without its tokenizer, which these tests do not need.
std::unique_ptr<const Model> Load(const std::string& folder, ModelLoadOptions::Numerics numerics) {
  const auto json = ReadTextFile(folder + "/config.json");
  EXPECT_TRUE(json.ok()) << json.status();
  T5Parts parts;
  parts.config = *ReadT5Config(*json, folder);
  parts.weights =
      *T5Weights::Load(parts.config, *OpenSafetensors(folder), *LinearForm::Of(numerics, 2));
  parts.execution.num_threads = 2;
  return std::make_unique<const T5Model>(std::move(parts));
}

std::unique_ptr<const Model> LoadF32(const GoldenCase& c) {
  return Load(c.folder / c.params.at("model").get<std::string>(), ModelLoadOptions::Numerics::kF32);
}

// k by kind of attention, in the order in which the policy counts layers.
AttentionPolicy PolicyOf(const GoldenCase& c, const T5Config& config) {
  AttentionPolicy policy = AttentionPolicy::Exact();
  const auto& k = c.params.at("attention_topk");
  policy.layer_k.assign(config.encoder_layers, k.at("enc").get<int64_t>());
  policy.layer_k.insert(policy.layer_k.end(), config.decoder_layers, k.at("dec").get<int64_t>());
  policy.layer_k.insert(policy.layer_k.end(), config.decoder_layers, k.at("cross").get<int64_t>());
  policy.ffn_top_k = c.params.at("ff_topk");
  if (policy.ffn_top_k != 0) {
    const std::string rule = c.params.at("ff_rule");
    policy.ffn_rank =
        rule == "gate_abs" ? AttentionPolicy::FfnRank::kGateAbs : AttentionPolicy::FfnRank::kPre;
    EXPECT_THAT(rule, testing::AnyOf("pre", "gate_pre", "gate_abs"));
  }
  return policy;
}

// Row `row` of `ids` as far as `mask`, or all of it.
std::vector<int32_t> IdsOf(const GoldenTensor& ids, int64_t row, const GoldenTensor* mask) {
  const int64_t cols = ids.shape.at(1);
  std::vector<int32_t> kept;
  for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
    if (mask == nullptr || mask->u8[i] != 0) kept.push_back(ids.i32[i]);
  }
  return kept;
}

// One question: the memory of its encoded window, and a decoder that reads it.
class Reader {
 public:
  Reader(const Model& model, const AttentionPolicy& policy, std::vector<int32_t> window)
      : memory_(model, policy), answer_(model, policy), window_(std::move(window)) {}

  ForwardSlice Window() {
    ForwardSlice slice = memory_.Next(window_);
    slice.encode = true;
    return slice;
  }
  ForwardSlice Answer(std::span<const int32_t> ids) {
    ForwardSlice slice = answer_.Next(ids);
    slice.memory = memory_.pages();
    slice.memory_tokens = memory_.position();
    return slice;
  }

 private:
  Sequence memory_, answer_;
  std::vector<int32_t> window_;
};

int32_t Best(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void CheckCase(const GoldenCase& c) {
  const GoldenTensors data = c.Load();
  const auto model = LoadF32(c);
  const auto json =
      ReadTextFile(c.folder / c.params.at("model").get<std::string>() / "config.json");
  const T5Config config = *ReadT5Config(*json, "config.json");
  const AttentionPolicy policy = PolicyOf(c, config);
  const auto workspace = model->NewWorkspace();
  const int64_t batch = data["input_ids"].shape.at(0), width = data["input_ids"].shape.at(1);
  const int64_t hidden = config.hidden, vocabulary = config.vocab;
  std::vector<Reader> readers;
  std::vector<ForwardSlice> slices;
  std::vector<std::vector<float>> encoded;
  for (int64_t row = 0; row < batch; ++row) {
    const auto ids = IdsOf(data["input_ids"], row, &data["attention_mask"]);
    encoded.emplace_back(ids.size() * hidden);
    readers.emplace_back(*model, policy, ids);
  }
  for (int64_t row = 0; row < batch; ++row) {
    slices.push_back(readers[row].Window());
    slices.back().encoded = encoded[row].data();
  }
  ASSERT_TRUE(model->Forward(slices, *workspace).ok());
  for (int64_t row = 0; row < batch; ++row) {
    const auto begin = data["encoder_output"].f64.begin() + row * width * hidden;
    EXPECT_EQ(
        CompareValues(encoded[row], {begin, begin + static_cast<int64_t>(encoded[row].size())},
                      c.ToleranceOf("encoder_output")),
        "")
        << "row " << row;
  }
  for (int64_t row = 0; row < batch; ++row) {
    // Teacher-forced, all at once.
    const auto ids = IdsOf(data["decoder_input_ids"], row, nullptr);
    Reader forced(*model, policy, IdsOf(data["input_ids"], row, &data["attention_mask"]));
    std::vector<float> logits(ids.size() * vocabulary);
    std::vector<ForwardSlice> both = {forced.Window(), forced.Answer(ids)};
    both[1].all_logits = logits.data();
    ASSERT_TRUE(model->Forward(both, *workspace).ok());
    const auto begin = data["logits"].f64.begin() + row * static_cast<int64_t>(logits.size());
    EXPECT_EQ(CompareValues(logits, {begin, begin + static_cast<int64_t>(logits.size())},
                            c.ToleranceOf("logits")),
              "")
        << "row " << row;
  }
  // Greedy answers, all rows in one batch.
  std::vector<std::vector<int32_t>> greedy(batch);
  std::vector<std::vector<float>> logits(batch, std::vector<float>(vocabulary));
  std::vector<int32_t> next(batch, config.start);
  for (int64_t step = 0; step < data["greedy_ids"].shape.at(1); ++step) {
    slices.clear();
    for (int64_t row = 0; row < batch; ++row) {
      slices.push_back(readers[row].Answer({&next[row], 1}));
      slices.back().logits = logits[row].data();
    }
    ASSERT_TRUE(model->Forward(slices, *workspace).ok());
    for (int64_t row = 0; row < batch; ++row) {
      greedy[row].push_back(next[row] = Best(logits[row]));
    }
  }
  for (int64_t row = 0; row < batch; ++row) {
    EXPECT_EQ(greedy[row], IdsOf(data["greedy_ids"], row, nullptr)) << "row " << row;
  }
}

TEST(T5GoldenTest, Buckets) {
  const auto cases = GoldenCases("t5_tiny");
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family t5_tiny");
  int tables = 0;
  for (const GoldenCase& c : cases) {
    if (c.path().extension() != ".safetensors") continue;
    const GoldenTensors data = c.Load();
    if (!data.Has("relative_position")) continue;
    const GoldenTensor& relative = data["relative_position"];
    for (const std::string& name : data.Names()) {
      int buckets = 0, distance = 0;
      char direction[32] = "";
      if (std::sscanf(name.c_str(), "buckets.n%d.max%d.%31s", &buckets, &distance, direction) !=
          3) {
        continue;
      }
      ++tables;
      for (int64_t i = 0; i < relative.size(); ++i) {
        ASSERT_EQ(
            T5Bucket(relative.i32[i], std::string(direction) == "bidirectional", buckets, distance),
            data[name].i32[i])
            << name << " at " << relative.i32[i];
      }
    }
  }
  EXPECT_GT(tables, 0);
}

TEST(T5GoldenTest, MatchesFloat64) {
  const auto cases = GoldenCases("t5_tiny");
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family t5_tiny");
  int checked = 0;
  for (const GoldenCase& c : cases) {
    if (!c.params.contains("attention_topk")) continue;
    SCOPED_TRACE(c.name);
    CheckCase(c);
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

// True for a case with attention to all keys and all feed-forward units.
bool IsDense(const GoldenCase& c) {
  if (!c.params.contains("attention_topk") || c.params.at("ff_topk") != 0) return false;
  const auto& k = c.params.at("attention_topk");
  return std::all_of(k.begin(), k.end(), [](const auto& of_part) { return of_part == 0; });
}

// Int8 weights, activations and memory: not the same numbers, the same model.
TEST(T5GoldenTest, Int8StaysClose) {
  int checked = 0;
  for (const GoldenCase& c : GoldenCases("t5_tiny")) {
    if (!IsDense(c)) continue;
    SCOPED_TRACE(c.name);
    ++checked;
    const GoldenTensors data = c.Load();
    const auto model = Load(c.folder / c.params.at("model").get<std::string>(),
                            ModelLoadOptions::Numerics::kInt8Rotated);
    const auto workspace = model->NewWorkspace();
    const AttentionPolicy policy = AttentionPolicy::Exact();
    Reader reader(*model, policy, IdsOf(data["input_ids"], 0, &data["attention_mask"]));
    const auto ids = IdsOf(data["decoder_input_ids"], 0, nullptr);
    std::vector<float> logits(ids.size() * model->info().vocabulary);
    std::vector<ForwardSlice> both = {reader.Window(), reader.Answer(ids)};
    both[1].all_logits = logits.data();
    ASSERT_TRUE(model->Forward(both, *workspace).ok());
    double error = 0, square = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      error += std::pow(logits[i] - data["logits"].f64[i], 2);
      square += std::pow(data["logits"].f64[i], 2);
    }
    // Three roundings of 2^-8 of the largest value for each product, a dozen products deep.
    EXPECT_LT(std::sqrt(error / square), 0.08);
    EXPECT_GT(std::sqrt(error / square), 1e-5) << "is this int8 at all?";
  }
  EXPECT_GT(checked, 0);
}

// Two windows, one after the other, are one memory; a window's place in a batch does not matter.
TEST(T5GoldenTest, WindowsJoinAndBatchInvariantly) {
  for (const auto numerics :
       {ModelLoadOptions::Numerics::kF32, ModelLoadOptions::Numerics::kInt8Rotated}) {
    const auto model = Load(FixtureDir() / "t5_tiny" / "v1_0", numerics);
    const auto workspace = model->NewWorkspace();
    AttentionPolicy policy = AttentionPolicy::Exact();
    policy.layer_k = {0, 0, 0, 0, 7, 7};
    std::vector<int32_t> first, second;
    for (int i = 0; i < 75; ++i) first.push_back(3 + i * 5 % 390);
    for (int i = 0; i < 33; ++i) second.push_back(3 + i * 7 % 390);
    const auto run = [&](bool together) {
      Sequence memory(*model, policy), answer(*model, policy), other(*model, policy);
      std::vector<ForwardSlice> slices = {memory.Next(first), other.Next(second),
                                          memory.Next(second)};
      for (ForwardSlice& slice : slices) slice.encode = true;
      slices[0].pages = memory.pages();
      if (together) {
        EXPECT_TRUE(model->Forward(slices, *workspace).ok());
      } else {
        for (const ForwardSlice& slice : slices) {
          EXPECT_TRUE(model->Forward({&slice, 1}, *workspace).ok());
        }
      }
      const int32_t start = model->decoder_start();
      std::vector<float> logits(model->info().vocabulary), mass(memory.position());
      ForwardSlice slice = answer.Next({&start, 1});
      slice.memory = memory.pages();
      slice.memory_tokens = memory.position();
      slice.logits = logits.data();
      slice.key_mass = mass.data();
      EXPECT_TRUE(model->Forward({&slice, 1}, *workspace).ok());
      // Every head of both layers gives its whole attention to the memory's tokens, less what the
      // seven kept keys leave out.
      double sum = 0;
      for (const float share : mass) sum += share;
      EXPECT_GT(sum, 1);
      EXPECT_LE(sum, 8.001);
      logits.insert(logits.end(), mass.begin(), mass.end());
      return logits;
    };
    EXPECT_EQ(run(true), run(false));
  }
}

TEST(T5GoldenTest, RefusesBadSlices) {
  const auto model =
      Load(FixtureDir() / "t5_tiny" / "v1_0", ModelLoadOptions::Numerics::kInt8Rotated);
  const auto workspace = model->NewWorkspace();
  const AttentionPolicy policy = AttentionPolicy::Exact();
  Sequence memory(*model, policy), answer(*model, policy);
  const std::vector<int32_t> window = {5, 6, 1},
                             bad = {5, static_cast<int32_t>(model->info().vocabulary)};
  ForwardSlice encode = memory.Next(window);
  encode.encode = true;
  ForwardSlice decode = answer.Next(window);
  const auto refused = [&](const ForwardSlice& slice) {
    return std::string(model->Forward({&slice, 1}, *workspace).message());
  };
  EXPECT_THAT(refused(decode), testing::HasSubstr("slices[0].memory_tokens"));
  decode.memory_tokens = 3;
  EXPECT_THAT(refused(decode), testing::HasSubstr("slices[0].memory"));
  ForwardSlice unknown = encode;
  unknown.tokens = bad;
  EXPECT_THAT(refused(unknown), testing::HasSubstr("slices[0].tokens"));
  ForwardSlice aimless = encode;
  aimless.policy = nullptr;
  EXPECT_THAT(refused(aimless), testing::HasSubstr("slices[0].policy"));
  EXPECT_EQ(refused(encode), "");
}

}  // namespace
}  // namespace lectern::test
