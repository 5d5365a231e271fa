// A random attention problem with its pages, and its results from the kernels.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "kernels/attention/topk_attention.h"
#include "tests/kernels/attention/paged_sequence.h"

namespace lectern::kernels {

struct Result {
  std::vector<float> out, mass, key_mass, weight;
  std::vector<int32_t> index;

  // Equal to the bit, for finite results.
  bool operator==(const Result& other) const = default;
};

struct Problem {
  KvPageLayout layout;
  int num_q_heads = 0;
  int64_t rows = 0, keys = 0, q_offset = 0, window = 0;
  bool causal = true;
  float scale = 1;
  float score_cap = 0;
  double largest_bias = 0;
  std::vector<float> q, k, v, bias;  // bias [num_q_heads, rows, keys] or empty
  std::vector<uint8_t> padding;
  std::shared_ptr<PagedSequence> sequence;

  // Makes the last `rows` rows of a causal context.
  static Problem Causal(KvType type, int q_heads, int kv_heads, int dim, int64_t rows, int64_t keys,
                        unsigned seed) {
    Problem p;
    p.layout = {type, 1, kv_heads, dim, dim};
    p.num_q_heads = q_heads;
    p.rows = rows;
    p.keys = keys;
    p.q_offset = keys - rows;
    p.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    p.Fill(seed);
    return p;
  }

  // Draws any shape, mask and bias: heads up to 256 wide, as often of a width that models have as
  // of another, and up to 16 query heads on a KV head. Rows and keys are fewer the more a key
  // costs.
  static Problem Random(unsigned seed) {
    std::mt19937 random(seed);
    const auto upto = [&](int n) { return static_cast<int>(random() % n) + 1; };
    const auto width = [&] {
      constexpr int kWidths[] = {64, 80, 96, 128, 256};
      return random() % 2 == 0 ? kWidths[random() % 5] : upto(random() % 4 == 0 ? 256 : 70);
    };
    Problem p;
    const int kv_heads = upto(3);
    p.layout = {random() % 2 ? KvType::kI8 : KvType::kF32, 1, kv_heads, width(), width()};
    p.num_q_heads = kv_heads * upto(random() % 2 == 0 ? 4 : 16);
    const int cost = p.num_q_heads * (p.layout.head_dim + p.layout.value_dim);
    p.keys = upto(random() % 4 == 0 ? 400 : cost > 3000 ? 100 : 200);
    p.rows = std::min<int64_t>(p.keys, upto(std::clamp(3000 / cost, 2, 12)));
    p.q_offset = random() % (p.keys - p.rows + 1);
    p.causal = random() % 4 != 0;
    p.window = random() % 4 == 0 ? upto(100) : 0;
    p.scale = 0.5f / std::sqrt(static_cast<float>(p.layout.head_dim));
    p.Fill(seed);
    if (random() % 4 == 0) {
      for (int64_t j = 0; j < p.keys; ++j) p.padding.push_back(random() % 3 == 0);
    }
    if (random() % 4 == 0) {
      for (int64_t i = 0; i < p.num_q_heads * p.rows * p.keys; ++i) {
        const float b = static_cast<float>(random() % 1000) * 0.004f - 2;
        p.bias.push_back(random() % 7 == 0 ? -std::numeric_limits<float>::infinity() : b);
      }
      p.largest_bias = 2;
    }
    if (p.bias.empty() && random() % 2 == 0) p.score_cap = 0.2f * static_cast<float>(upto(20));
    return p;
  }

  // Writes k and v to the pages again.
  void Write() {
    sequence = std::make_shared<PagedSequence>(layout, keys);
    EXPECT_TRUE(Ok(sequence->Append(0, 0, keys, k.data(), v.data())));
  }

  double LargestValue() const {
    double largest = 0;
    for (const float x : v) largest = std::max<double>(largest, std::fabs(x));
    return largest;
  }

  Result Blank(int64_t k_kept) const {
    Result r;
    r.out.resize(rows * num_q_heads * layout.value_dim);
    r.mass.resize(rows * num_q_heads);
    r.key_mass.resize(keys);
    r.index.assign(rows * num_q_heads * k_kept, -1);
    r.weight.resize(rows * num_q_heads * k_kept);
    return r;
  }

  AttentionArgs Args(Result* result = nullptr) const {
    AttentionArgs args{.q = q.data(),
                       .q_stride = static_cast<int64_t>(num_q_heads) * layout.head_dim,
                       .rows = rows,
                       .num_q_heads = num_q_heads,
                       .q_offset = q_offset,
                       .layout = layout,
                       .table = sequence->Table(keys),
                       .scale = scale,
                       .score_cap = score_cap,
                       .causal = causal,
                       .window = window};
    if (!padding.empty()) args.key_padding = padding.data();
    if (!bias.empty()) {
      args.bias = bias.data();
      args.bias_head_stride = rows * keys;
      args.bias_row_stride = keys;
    }
    args.out_stride = static_cast<int64_t>(num_q_heads) * layout.value_dim;
    if (result != nullptr) {
      args.out = result->out.data();
      args.kept_mass = result->mass.data();
      args.key_mass = result->key_mass.data();
    }
    return args;
  }

  Result Run(int64_t k_kept, Tail tail, const ExecutionContext& context) const {
    return Run(k_kept, tail, context, {rows}, true);
  }

  // Runs the rows in calls of the given number of rows. Sums over rows (key_mass) are left out on
  // request: their order follows the calls.
  Result Run(int64_t k_kept, Tail tail, const ExecutionContext& context,
             const std::vector<int64_t>& cuts, bool with_key_mass) const {
    Result r = Blank(k_kept);
    int64_t row = 0;
    for (const int64_t count : cuts) {
      AttentionArgs args = Args(&r);
      args.q += row * args.q_stride;
      args.q_offset += row;
      args.rows = count;
      args.out += row * args.out_stride;
      args.kept_mass += row * num_q_heads;
      if (args.bias != nullptr) args.bias += row * args.bias_row_stride;
      if (!with_key_mass) args.key_mass = nullptr;
      TopKParams params{.k = k_kept, .tail = tail};
      if (k_kept > 0) {
        params.kept_index = r.index.data() + row * num_q_heads * k_kept;
        params.kept_weight = r.weight.data() + row * num_q_heads * k_kept;
      }
      EXPECT_TRUE(Ok(TopKAttention({&args, 1}, params, context)));
      row += count;
    }
    return r;
  }

 private:
  void Fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, int64_t n) {
      x.resize(n);
      for (float& value : x) value = normal(random);
    };
    fill(q, rows * num_q_heads * layout.head_dim);
    fill(k, keys * layout.num_kv_heads * layout.head_dim);
    fill(v, keys * layout.num_kv_heads * layout.value_dim);
    Write();
  }
};

}  // namespace lectern::kernels
