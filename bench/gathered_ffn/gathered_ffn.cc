#include "kernels/ffn/sparse_ffn.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/ffn/ffn_ops_table.h"
#include "kernels/rows/row_ops.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::kernels {
namespace {

// Weights are read once for so many rows.
constexpr int64_t kBlockRows = 24;
// Whole tiles of every class: shares of columns, and rows that make up for reading `down` once
// more.
constexpr int64_t kMixColumns = 64, kMixRows = 12;
// Rows of `down` that stay in the L2 cache while rows of x that gather pass over them.
constexpr int64_t kKeptUnits = 256;
// Shares are multiples of a cache line.
constexpr int64_t kLineFloats = 16;
// Several rows gather when at most one unit in so many is kept (docs/measurements/ffn.md).
constexpr int64_t kGatherShare = 8;

constexpr int64_t Parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

LaunchStatus CheckWeights(const FeedForwardWeights& w) {
  if (w.width < 1 || w.units < 1 || w.out_width < 1 || w.units > INT32_MAX) {
    return LaunchStatus::kBadShape;
  }
  if (w.gate == nullptr || w.down == nullptr) return LaunchStatus::kBadArgument;
  return LaunchStatus::kOk;
}

double Norm(const float* row, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(row[i]) * row[i];
  return std::sqrt(sum);
}

bool ByGate(FfnRank rank) { return rank != FfnRank::kProduct && rank != FfnRank::kNorm; }
bool WithNorms(FfnRank rank) { return rank == FfnRank::kNorm || rank == FfnRank::kGateNorm; }

// What a block of rows reads.
enum class Path {
  kAll,     // every unit; with a selection the dropped ones are then set to 0
  kGather,  // rows of down, and of up if the gate ranks, of the kept units alone
};

// One call. The stages of a block follow each other; a team of threads shares the work of each.
class Layer {
 public:
  Layer(const FeedForwardWeights& weights, const FfnSelection& selection, const FfnOps& ops,
        int64_t rows, int threads)
      : w_(weights),
        ops_(ops),
        rank_(selection.rank),
        k_(selection.k <= 0 ? weights.units : std::min(selection.k, weights.units)),
        threads_(threads),
        norms_(WithNorms(rank_) ? selection.unit_norms : nullptr),
        gated_(weights.up != nullptr) {
    const int64_t block = std::min(rows, kBlockRows) * w_.units;
    z_ = std::make_unique_for_overwrite<float[]>(block);
    if (gated_) up_ = std::make_unique_for_overwrite<float[]>(block);
    if (!Selects()) return;
    hidden_ = std::make_unique_for_overwrite<float[]>(block);
    units_ = std::make_unique_for_overwrite<int32_t[]>(block);
    keys_ = std::make_unique_for_overwrite<int32_t[]>(threads * w_.units);
  }

  // Rows [0, rows) of at most kBlockRows; kept_units may be null.
  void RunBlock(const float* x, int64_t rows, float* y, int32_t* kept_units) {
    const Path path = PathOf(rows);
    Products(x, rows, path);
    ForItems(threads_, {.count = rows}, [&](ItemRange range, int thread) {
      for (int64_t row = range.begin; row < range.end; ++row) {
        int32_t* keys = keys_.get() + thread * w_.units;
        if (Selects()) Select(row, path, keys, kept_units);
        if (!Selects()) ops_.activate(w_.activation, Z(row), Up(row), w_.units, Z(row));
      }
    });
    if (path == Path::kGather && gated_ && ByGate(rank_)) GatherUp(x, rows);
    path == Path::kGather ? MixKept(rows, y) : MixAll(rows, y);
  }

 private:
  // What lies in `lines` of `count` floats.
  static FfnRange Floats(ItemRange lines, int64_t count) {
    return {lines.begin * kLineFloats, std::min(lines.end * kLineFloats, count)};
  }
  bool Selects() const { return k_ < w_.units; }
  Path PathOf(int64_t rows) const {
    if (!Selects()) return Path::kAll;
    return rows == 1 || k_ * kGatherShare <= w_.units ? Path::kGather : Path::kAll;
  }
  float* Z(int64_t row) { return z_.get() + row * w_.units; }
  float* Up(int64_t row) { return gated_ ? up_.get() + row * w_.units : nullptr; }
  float* Hidden(int64_t row) { return hidden_.get() + row * w_.units; }
  int32_t* Units(int64_t row) { return units_.get() + row * w_.units; }

  // z, and the second factors where they are needed in full.
  void Products(const float* x, int64_t rows, Path path) {
    ForItems(threads_, {.count = Parts(w_.units, kLineFloats)}, [&](ItemRange lines, int) {
      FfnDots job{.x = x,
                  .rows = rows,
                  .width = w_.width,
                  .w = w_.gate,
                  .units = nullptr,
                  .range = Floats(lines, w_.units),
                  .out = z_.get(),
                  .out_stride = w_.units};
      ops_.dots(job);
      if (!gated_ || (path == Path::kGather && ByGate(rank_))) return;
      job.w = w_.up;
      job.out = up_.get();
      ops_.dots(job);
    });
  }

  // Activates a row and cuts it: to a list of units (kGather) or to zeros elsewhere (kAll).
  void Select(int64_t row, Path path, int32_t* keys, int32_t* kept_units) {
    float* z = Z(row);
    if (rank_ != FfnRank::kPre) {
      ops_.activate(w_.activation, z, ByGate(rank_) ? nullptr : Up(row), w_.units, z);
    }
    ops_.keys(z, norms_, rank_ != FfnRank::kPre, w_.units, keys);
    const FfnCut cut = ops_.find_cut(keys, w_.units, k_);
    if (path == Path::kGather || kept_units != nullptr) ListLive(row, keys, cut);
    if (kept_units != nullptr) {
      int32_t* out = kept_units + row * k_;
      std::fill(std::copy_n(Units(row), live_[row], out), out + k_, -1);
    }
    if (path == Path::kGather) {
      for (int64_t p = 0; p < live_[row]; ++p) Hidden(row)[p] = z[Units(row)[p]];
      if (!gated_ || !ByGate(rank_)) Finish(row, 0, live_[row], Hidden(row), nullptr);
    } else {
      Finish(row, 0, w_.units, z, ByGate(rank_) ? Up(row) : nullptr);
      ops_.zero_dropped(keys, w_.units, cut, z);
    }
  }

  // The kept units that a ReLU has not made 0.
  void ListLive(int64_t row, const int32_t* keys, FfnCut cut) {
    int32_t* units = Units(row);
    const float* z = Z(row);
    int64_t live = ops_.list_kept(keys, w_.units, cut, units);
    if (w_.activation == FfnActivation::kRelu) {
      const bool before = rank_ == FfnRank::kPre;
      live = std::remove_if(units, units + live,
                            [&](int32_t u) { return z[u] == 0 || (before && z[u] < 0); }) -
             units;
    }
    live_[row] = live;
  }

  // What ranking left undone: the activation after kPre, the second factor after a gate's rank.
  void Finish(int64_t row, int64_t begin, int64_t end, float* values, const float* up) {
    const FfnActivation left = rank_ == FfnRank::kPre ? w_.activation : FfnActivation::kIdentity;
    if (left == FfnActivation::kIdentity && up == nullptr) return;
    ops_.activate(left, values + begin, up == nullptr ? nullptr : up + begin, end - begin,
                  values + begin);
  }

  // The second factors of the kept units; the positions of all rows are shared out as one list.
  void GatherUp(const float* x, int64_t rows) {
    int64_t total = 0;
    for (int64_t row = 0; row < rows; ++row) total += live_[row];
    ForItems(threads_, {.count = total, .step = kLineFloats}, [&](ItemRange share, int) {
      int64_t before = 0;
      for (int64_t row = 0; row < rows; before += live_[row++]) {
        const int64_t begin = std::max<int64_t>(share.begin - before, 0);
        const int64_t end = std::min(share.end - before, live_[row]);
        if (begin >= end) continue;
        ops_.dots({.x = x + row * w_.width,
                   .rows = 1,
                   .width = w_.width,
                   .w = w_.up,
                   .units = Units(row),
                   .range = {begin, end},
                   .out = Up(row),
                   .out_stride = 0});
        Finish(row, begin, end, Hidden(row), Up(row));
      }
    });
  }

  // y from all units, in items of rows x columns; rows of the same columns follow each other.
  void MixAll(int64_t rows, float* y) {
    const int64_t row_parts = Parts(rows, kMixRows), row_step = Parts(rows, row_parts);
    const int64_t line = rows == 1 ? kLineFloats : kMixColumns;
    const int64_t step = Parts(Parts(w_.out_width, line), Parts(threads_, row_parts)) * line;
    const int64_t items = row_parts * Parts(w_.out_width, step);
    ForItems(threads_, {.count = items}, [&](ItemRange range, int) {
      for (int64_t item = range.begin; item < range.end; ++item) {
        const int64_t row = item % row_parts * row_step, column = item / row_parts * step;
        ops_.mix({.hidden = Z(row),
                  .hidden_stride = w_.units,
                  .rows = std::min(row_step, rows - row),
                  .units = nullptr,
                  .positions = {0, w_.units},
                  .down = w_.down,
                  .width = w_.out_width,
                  .columns = {column, std::min(column + step, w_.out_width)},
                  .y = y + row * w_.out_width,
                  .read_ahead = true});
      }
    });
  }

  // y from the kept units.
  void MixKept(int64_t rows, float* y) {
    ForItems(threads_, {.count = Parts(w_.out_width, kLineFloats)},
             [&](ItemRange lines, int) { MixKeptColumns(rows, Floats(lines, w_.out_width), y); });
  }

  // All rows pass over some units before the next ones.
  void MixKeptColumns(int64_t rows, FfnRange columns, float* y) {
    const int64_t step = rows == 1 ? w_.units : kKeptUnits;
    int64_t done[kBlockRows] = {};
    for (int64_t unit = 0; unit < w_.units; unit += step) {
      for (int64_t row = 0; row < rows; ++row) {
        const int32_t* units = Units(row);
        const int64_t end =
            std::lower_bound(units + done[row], units + live_[row], unit + step) - units;
        ops_.mix({.hidden = Hidden(row),
                  .hidden_stride = w_.units,
                  .rows = 1,
                  .units = units,
                  .positions = {done[row], end},
                  .down = w_.down,
                  .width = w_.out_width,
                  .columns = columns,
                  .y = y + row * w_.out_width,
                  .read_ahead = true});
        done[row] = end;
      }
    }
  }

  const FeedForwardWeights& w_;
  const FfnOps& ops_;
  const FfnRank rank_;
  const int64_t k_;  // in [1, units]
  const int threads_;
  const float* const norms_;
  const bool gated_;
  // [block rows, units] each: pre-activations, then what they become; second factors; hidden values
  // and their units, in the first live_[row] places.
  std::unique_ptr<float[]> z_, up_, hidden_;
  std::unique_ptr<int32_t[]> units_;
  std::unique_ptr<int32_t[]> keys_;  // [threads, units]
  int64_t live_[kBlockRows];
};

}  // namespace

LaunchStatus FfnUnitNorms(const FeedForwardWeights& weights, FfnRank rank, float* norms,
                          const ExecutionContext& context) {
  if (LaunchStatus status = CheckWeights(weights); !Ok(status)) return status;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (norms == nullptr) return LaunchStatus::kBadArgument;
  ForRows(weights.units, weights.width, context, [&](ItemRange range) {
    for (int64_t u = range.begin; u < range.end; ++u) {
      double norm = 1;
      if (WithNorms(rank)) norm = Norm(weights.down + u * weights.out_width, weights.out_width);
      if (rank == FfnRank::kGateNorm && weights.up != nullptr) {
        norm *= Norm(weights.up + u * weights.width, weights.width);
      }
      norms[u] = static_cast<float>(norm);
    }
  });
  return LaunchStatus::kOk;
}

LaunchStatus TopKFeedForward(const float* x, int64_t rows, const FeedForwardWeights& weights,
                             const FfnSelection& selection, float* y,
                             const ExecutionContext& context) {
  if (rows < 0) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckWeights(weights); !Ok(status)) return status;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (x == nullptr || y == nullptr) return LaunchStatus::kBadArgument;

  FfnSelection chosen = selection;
  const bool selects = selection.k > 0 && selection.k < weights.units;
  std::vector<float> norms;
  if (selects && WithNorms(selection.rank) && selection.unit_norms == nullptr) {
    norms.resize(weights.units);
    const LaunchStatus status = FfnUnitNorms(weights, selection.rank, norms.data(), context);
    if (!Ok(status)) return status;
    chosen.unit_norms = norms.data();
  }
  Layer layer(weights, chosen, FfnOpsOf(context.isa), rows, context.num_threads);
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    int32_t* kept = selects && selection.kept_units != nullptr
                        ? selection.kept_units + row * selection.k
                        : nullptr;
    layer.RunBlock(x + row * weights.width, std::min(rows - row, kBlockRows),
                   y + row * weights.out_width, kept);
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
