#include "bench/gathered_ffn/gathered_ffn.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "bench/gathered_ffn/gathered_ops.h"
#include "kernels/ffn/ffn_ops_table.h"
#include "kernels/rows/row_ops.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::bench {
namespace {

using kernels::ExecutionContext;
using kernels::FfnActivation;
using kernels::FfnCut;
using kernels::FfnOps;
using kernels::ForItems;
using kernels::Isa;
using kernels::ItemRange;
using kernels::LaunchStatus;
using kernels::Ok;

// Rows that the weights are read for at once.
constexpr int64_t kBlockRows = 24;
// The share of a work item in the dense down product: whole tiles of columns in every class, and
// enough rows to make up for reading `down` once more.
constexpr int64_t kTileColumns = 64, kTileRows = 12;
// Rows of `down` that stay in the L2 cache while rows of x that gather pass over them.
constexpr int64_t kKeptUnits = 256;
// Work is split at multiples of a cache line.
constexpr int64_t kLineFloats = 16;
// Several rows gather when at most one unit in this many is kept (docs/measurements/ffn.md).
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

bool ByGate(UnitRank rank) { return rank == UnitRank::kPre || rank == UnitRank::kGateAbs; }

const GatheredOps& GatheredOpsOf(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return kGatheredOpsAvx512;
    case Isa::kAvx2:
      return kGatheredOpsAvx2;
    case Isa::kPortable:
      break;
  }
  return kGatheredOpsPortable;
}

// Lists the units that stay, ascending, and returns their number. `units` has room for count.
int64_t ListKept(const int32_t* keys, int64_t count, FfnCut cut, int32_t* units) {
  int64_t kept = 0;
  if (cut.ties >= count) {  // all equal ones stay: no branch for each
    for (int64_t i = 0; i < count; ++i) {
      units[kept] = static_cast<int32_t>(i);
      kept += keys[i] >= cut.key;
    }
    return kept;
  }
  for (int64_t i = 0; i < count; ++i) {
    if (keys[i] > cut.key || (keys[i] == cut.key && cut.ties-- > 0)) {
      units[kept++] = static_cast<int32_t>(i);
    }
  }
  return kept;
}

// The weights that a block of rows reads.
enum class Path {
  kAll,     // every unit; with a selection the dropped ones are then set to 0
  kGather,  // rows of `down`, and of `up` if the gate ranks, of the kept units alone
};

// One call. The stages of a block follow each other; a team of threads shares the work of each.
class GatheredLayer {
 public:
  GatheredLayer(const FeedForwardWeights& weights, const UnitSelection& selection,
                const std::vector<float>& norms, int64_t rows, const ExecutionContext& context)
      : w_(weights),
        ops_(kernels::FfnOpsOf(context.isa)),
        products_(GatheredOpsOf(context.isa)),
        rank_(selection.rank),
        k_(selection.k <= 0 ? weights.units : std::min(selection.k, weights.units)),
        threads_(context.num_threads),
        norms_(norms),
        gated_(weights.up != nullptr) {
    const int64_t block = std::min(rows, kBlockRows) * w_.units;
    z_ = std::make_unique_for_overwrite<float[]>(block);
    if (gated_) up_ = std::make_unique_for_overwrite<float[]>(block);
    if (!Selects()) return;
    hidden_ = std::make_unique_for_overwrite<float[]>(block);
    units_ = std::make_unique_for_overwrite<int32_t[]>(block);
    keys_ = std::make_unique_for_overwrite<int32_t[]>(threads_ * w_.units);
    if (!norms_.empty()) weighted_ = std::make_unique_for_overwrite<float[]>(threads_ * w_.units);
  }

  // Rows [0, rows) of at most kBlockRows; kept_units may be null.
  void RunBlock(const float* x, int64_t rows, float* y, int32_t* kept_units) {
    const Path path = PathOf(rows);
    Products(x, rows, path);
    ForItems(threads_, {.count = rows}, [&](ItemRange range, int thread) {
      for (int64_t row = range.begin; row < range.end; ++row) {
        if (Selects()) Select(row, path, thread, kept_units);
        if (!Selects()) ops_.activate(w_.activation, Z(row), Up(row), w_.units, Z(row));
      }
    });
    if (path == Path::kGather && gated_ && ByGate(rank_)) GatherUp(x, rows);
    path == Path::kGather ? AddKept(rows, y) : AddAll(rows, y);
  }

 private:
  // The floats in `lines` out of `count`.
  static IndexRange FloatsOf(ItemRange lines, int64_t count) {
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

  // Computes z, and the second factors where they are needed in full.
  void Products(const float* x, int64_t rows, Path path) {
    ForItems(threads_, {.count = Parts(w_.units, kLineFloats)}, [&](ItemRange lines, int) {
      DotProducts job{.x = x,
                      .rows = rows,
                      .width = w_.width,
                      .w = w_.gate,
                      .units = nullptr,
                      .range = FloatsOf(lines, w_.units),
                      .out = z_.get(),
                      .out_stride = w_.units};
      products_.dot_products(job);
      if (!gated_ || (path == Path::kGather && ByGate(rank_))) return;
      job.w = w_.up;
      job.out = up_.get();
      products_.dot_products(job);
    });
  }

  // Activates a row and cuts it: to a list of units (kGather) or to zeros elsewhere (kAll).
  void Select(int64_t row, Path path, int thread, int32_t* kept_units) {
    int32_t* const keys = keys_.get() + thread * w_.units;
    float* z = Z(row);
    if (rank_ != UnitRank::kPre) {
      ops_.activate(w_.activation, z, ByGate(rank_) ? nullptr : Up(row), w_.units, z);
    }
    const float* ranks = z;
    if (!norms_.empty()) {
      float* const weighted = weighted_.get() + thread * w_.units;
      for (int64_t u = 0; u < w_.units; ++u) weighted[u] = z[u] * norms_[u];
      ranks = weighted;
    }
    ops_.keys(ranks, rank_ != UnitRank::kPre, w_.units, keys);
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

  // Lists the kept units that a ReLU has not made 0.
  void ListLive(int64_t row, const int32_t* keys, FfnCut cut) {
    int32_t* units = Units(row);
    const float* z = Z(row);
    int64_t live = ListKept(keys, w_.units, cut, units);
    if (w_.activation == FfnActivation::kRelu) {
      const bool before = rank_ == UnitRank::kPre;
      live = std::remove_if(units, units + live,
                            [&](int32_t u) { return z[u] == 0 || (before && z[u] < 0); }) -
             units;
    }
    live_[row] = live;
  }

  // Applies what ranking left out: the activation after kPre, the second factor after a gate's
  // rank.
  void Finish(int64_t row, int64_t begin, int64_t end, float* values, const float* up) {
    const FfnActivation left = rank_ == UnitRank::kPre ? w_.activation : FfnActivation::kIdentity;
    if (left == FfnActivation::kIdentity && up == nullptr) return;
    ops_.activate(left, values + begin, up == nullptr ? nullptr : up + begin, end - begin,
                  values + begin);
  }

  // Computes the second factors of the kept units; the positions of all rows are shared out as one
  // list.
  void GatherUp(const float* x, int64_t rows) {
    int64_t total = 0;
    for (int64_t row = 0; row < rows; ++row) total += live_[row];
    ForItems(threads_, {.count = total, .step = kLineFloats}, [&](ItemRange share, int) {
      int64_t before = 0;
      for (int64_t row = 0; row < rows; before += live_[row++]) {
        const int64_t begin = std::max<int64_t>(share.begin - before, 0);
        const int64_t end = std::min(share.end - before, live_[row]);
        if (begin >= end) continue;
        products_.dot_products({.x = x + row * w_.width,
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

  // Computes y from all units, in items of rows x columns; rows of the same columns follow each
  // other.
  void AddAll(int64_t rows, float* y) {
    const int64_t row_parts = Parts(rows, kTileRows), row_step = Parts(rows, row_parts);
    const int64_t line = rows == 1 ? kLineFloats : kTileColumns;
    const int64_t step = Parts(Parts(w_.out_width, line), Parts(threads_, row_parts)) * line;
    const int64_t items = row_parts * Parts(w_.out_width, step);
    ForItems(threads_, {.count = items}, [&](ItemRange range, int) {
      for (int64_t item = range.begin; item < range.end; ++item) {
        const int64_t row = item % row_parts * row_step, column = item / row_parts * step;
        products_.add_weighted_rows({.hidden = Z(row),
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

  // Computes y from the kept units.
  void AddKept(int64_t rows, float* y) {
    ForItems(threads_, {.count = Parts(w_.out_width, kLineFloats)},
             [&](ItemRange lines, int) { AddKeptColumns(rows, FloatsOf(lines, w_.out_width), y); });
  }

  // All rows pass over some units before the next ones.
  void AddKeptColumns(int64_t rows, IndexRange columns, float* y) {
    const int64_t step = rows == 1 ? w_.units : kKeptUnits;
    int64_t done[kBlockRows] = {};
    for (int64_t unit = 0; unit < w_.units; unit += step) {
      for (int64_t row = 0; row < rows; ++row) {
        const int32_t* units = Units(row);
        const int64_t end =
            std::lower_bound(units + done[row], units + live_[row], unit + step) - units;
        products_.add_weighted_rows({.hidden = Hidden(row),
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
  const GatheredOps& products_;
  const UnitRank rank_;
  const int64_t k_;  // in [1, units]
  const int threads_;
  const std::vector<float>& norms_;  // [units] of the rows of `down`, for kNorm; else empty
  const bool gated_;
  // [block rows, units] each: pre-activations, then what they become; second factors; hidden values
  // and their units, in the first live_[row] places.
  std::unique_ptr<float[]> z_, up_, hidden_;
  std::unique_ptr<int32_t[]> units_;
  std::unique_ptr<int32_t[]> keys_;    // [threads, units]
  std::unique_ptr<float[]> weighted_;  // [threads, units]: ranks times norms
  int64_t live_[kBlockRows];
};

}  // namespace

LaunchStatus TopKFeedForward(const float* x, int64_t rows, const FeedForwardWeights& weights,
                             const UnitSelection& selection, float* y,
                             const ExecutionContext& context) {
  if (rows < 0) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckWeights(weights); !Ok(status)) return status;
  if (LaunchStatus status = kernels::CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (x == nullptr || y == nullptr) return LaunchStatus::kBadArgument;

  const bool selects = selection.k > 0 && selection.k < weights.units;
  std::vector<float> norms;
  if (selects && selection.rank == UnitRank::kNorm) {
    for (int64_t u = 0; u < weights.units; ++u) {
      const double norm = Norm(weights.down + u * weights.out_width, weights.out_width);
      norms.push_back(static_cast<float>(norm));
    }
  }
  GatheredLayer layer(weights, selection, norms, rows, context);
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    int32_t* kept = selects && selection.kept_units != nullptr
                        ? selection.kept_units + row * selection.k
                        : nullptr;
    layer.RunBlock(x + row * weights.width, std::min(rows - row, kBlockRows),
                   y + row * weights.out_width, kept);
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::bench
