// Loads the linear layers of a model: reads their tensors, applies what is folded into the weights,
// and packs them for the model's numerics.
//
// All weights of a model lie in one piece of memory, in the order in which the layers were added,
// which should be the one in which a token needs them. Matrices are packed piece by piece on the
// threads of the calling thread's team (kernels/runtime/thread_team.h). Besides the model, what is
// in memory as fp32 takes at most 1/32 of the model's memory, or is one piece. Pages of the
// file are given back as soon as their piece is packed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/linear/block_linear.h"
#include "server/formats/tensor_source.h"
#include "server/model/layers/linear.h"
#include "server/model/layers/rotation.h"

namespace lectern {

// The largest Hadamard block in which a layer mixes its input: wider ones spread outliers no better
// and cost more.
inline constexpr int64_t kMaxHadamardBlock = 512;

// A tensor whose rows are output channels of a layer.
struct LinearRows {
  const TensorView* weight = nullptr;  // [rows, in]
  const TensorView* bias = nullptr;    // [rows], or null: 0
  // For each channel the row of the tensor that holds it, and the place of its bias; empty: the
  // same row. Outlives loading.
  std::span<const int64_t> order;
  // Width of the Hadamard blocks in which the channels are mixed; 1: not. The layer that reads them
  // has the same LinearTensors::input_hadamard.
  int64_t hadamard = 1;
};

// The tensors of a layer, and what is folded into its weights when it is loaded. Rotations and
// Hadamard blocks are used only where LinearForm::rotated is set, and then cancel between layers.
struct LinearTensors {
  std::vector<LinearRows> rows;      // stacked in this order
  const TensorView* norm = nullptr;  // [in] weight of the RMSNorm before the layer, or null
  float norm_offset = 0;             // added to the norm's weight
  double norm_epsilon = 0;
  float factor = 1;                          // on the weights; not with kBlocks
  const Rotation* input_rotation = nullptr;  // the input is rotated by it
  // Width of the Hadamard blocks in which the input arrives mixed (1: in none). 0: the layer mixes
  // its input itself, in blocks as wide as its width allows, unless it is rotated.
  int64_t input_hadamard = 0;
  const Rotation* output_rotation = nullptr;  // the output is to be rotated by it
};

// One model's loading. Not thread-safe.
class LinearLoader {
 public:
  // Work that has nothing to do with the layers and runs next to them.
  using Task = std::function<absl::Status()>;

  // `source` outlives Run.
  LinearLoader(const LinearForm& form, const TensorSource& source) : form_(form), source_(source) {}

  // `layer` is to be loaded by Run, and stays where it is until then. Its bytes() are known from
  // now on.
  void Add(Linear* layer, LinearTensors tensors);

  // Whether the form can hold every tensor that was added: CheckBlockTensors' error if not.
  absl::Status Check() const;

  // Loads all layers and runs `others`, on the form's threads. Stops at the first failure and
  // returns it: Dequantize's, Check's, the device's, those of `others`, or RESOURCE_EXHAUSTED.
  absl::Status Run(std::span<const Task> others = {});

 private:
  class Arena;
  class ScratchLimit;
  struct Pending {
    Linear* layer;
    LinearTensors tensors;
  };
  // Output channels [begin, end) of a layer.
  struct Piece {
    const Pending* pending;
    int64_t begin;
    int64_t end;
  };

  void PlaceLayer(const Pending& pending, Arena& arena) const;
  size_t Place();
  std::vector<Piece> CutIntoPieces() const;
  absl::Status LoadPiece(const Piece& piece, ScratchLimit& scratch) const;
  absl::Status ReadNorm(const LinearTensors& tensors, float* weight) const;
  absl::Status ReadBias(const LinearTensors& tensors, float* bias) const;
  absl::Status ReadRows(const Piece& piece, float* w) const;
  absl::Status Fold(const Pending& pending, int64_t rows, float* w) const;
  absl::Status PackBlocks(const Piece& piece) const;

  const LinearForm form_;
  const TensorSource& source_;
  std::vector<Pending> pending_;
};

// The form in which the kernels hold a matrix of this type with kBlocks.
kernels::BlockForm KernelForm(TensorType type);

// UNIMPLEMENTED naming the first of the stacked tensors whose rows cannot be divided into blocks.
absl::Status CheckBlockTensors(std::span<const TensorView* const> stack);

}  // namespace lectern
