// A linear layer, y = x W^T + b, in the numerics its model was loaded with. Every family computes
// all of its matrix products here; LinearLoader (linear_loader.h) reads the weights.
//
//   kF32          fp32 weights, multiplied by LibTorch (f32_product/row_product.h): the reference.
//   kInt8Rotated  int8 weights and activations (kernels/linear/int8_linear.h). The model is
//                 rotated, so that no channel of an activation stands out and one scale per row is
//                 enough (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456).
//   kBlocks       weights in blocks of 32, int8 activations (kernels/linear/block_linear.h).
//                 Nothing is rotated. Most codes of a GGUF file are kept as they are; types that no
//                 kernel takes are rounded to 8 bits (BlockFormOf).
//
// A row's result depends on that row alone, bit for bit: not on its batch, not on the number of
// threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/aligned_buffer.h"
#include "kernels/ffn/ffn_activation.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/linear/block_linear.h"
#include "kernels/linear/linear_input.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/device/int8_device.h"
#include "server/model/f32_product/f32_product.h"
#include "server/model/load_options.h"

namespace lectern {

// How the linear layers of one model compute. Plain data.
struct LinearForm {
  ModelLoadOptions::Numerics numerics = ModelLoadOptions::Numerics::kInt8Rotated;  // never kAuto
  // Activations are rotated where that costs nothing and mixed in Hadamard blocks where it costs
  // little; the weights hold the inverse. In exact arithmetic the model is the same function.
  bool rotated = true;
  F32ProductFunction* product = nullptr;  // kF32 only
  int threads = 1;                        // of loading
  Int8Device* device = nullptr;           // kInt8Rotated only; null: none

  // Loads what the numerics need; kAuto becomes kInt8Rotated.
  static absl::StatusOr<LinearForm> Of(ModelLoadOptions::Numerics numerics, int threads,
                                       Int8Device* device = nullptr);
  // Loads nothing: describes how a model would compute, and cannot compute.
  static LinearForm Described(ModelLoadOptions::Numerics numerics, int threads,
                              Int8Device* device = nullptr);
  bool is_f32() const { return numerics == ModelLoadOptions::Numerics::kF32; }
  const char* name() const;  // ModelInfo::numerics
  // Keys and values have the precision of activations.
  kernels::KvType kv_type() const;
  const char* kv_name() const;  // ModelInfo::kv_cache
};

// Const after loading; any thread may run it. Inputs and outputs are fp32, row-major and dense, and
// do not overlap. Errors are INTERNAL: a kernel failed.
class Linear {
 public:
  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  uint64_t bytes() const { return bytes_; }  // memory held

  // y [rows, out] = x [rows, in] W^T + b, or += with accumulate. The layer has no norm.
  absl::Status Run(const float* x, int64_t rows, float* y, bool accumulate,
                   const kernels::ExecutionContext& execution) const;
  // y [rows, out] = RMSNorm(x [rows, in]) W^T + b. The layer has a norm (LinearTensors::norm). With
  // int8 activations the normalised row is never stored.
  absl::Status RunNormed(const float* x, int64_t rows, float* y,
                         const kernels::ExecutionContext& execution) const;
  // y [rows, out] = (activation(gate) * up) W^T + b of gate_up [rows, 2, in], or += with
  // accumulate; the layer has no norm. With int8 activations the activated row is never stored.
  absl::Status RunGated(kernels::FfnActivation activation, const float* gate_up, int64_t rows,
                        float* y, bool accumulate,
                        const kernels::ExecutionContext& execution) const;

  bool has_norm() const { return has_norm_; }  // a norm before the layer: RunNormed, else Run
  // The weight of the norm before the layer [in]; null when it is folded into W, or there is none.
  const float* norm_weight() const { return norm_weight_; }
  float norm_epsilon() const { return norm_epsilon_; }

 private:
  friend class LinearLoader;

  absl::Status Multiply(kernels::LinearInput input, float* y, bool accumulate,
                        const kernels::ExecutionContext& execution) const;
  absl::Status MultiplyF32(const kernels::LinearInput& input, float* y, bool accumulate,
                           const kernels::ExecutionContext& execution) const;
  kernels::Int8Matrix Int8() const { return {out_, in_, int8_, scale_, row_sum_}; }

  LinearForm form_;
  int64_t in_ = 0;
  int64_t out_ = 0;
  uint64_t bytes_ = 0;
  int64_t hadamard_ = 1;  // the layer mixes its input in blocks of this width
  bool has_norm_ = false;
  float norm_epsilon_ = 0;
  // Into memory_, which the layers of a model share. Only the loader writes there.
  std::shared_ptr<AlignedBuffer<std::byte>> memory_;
  float* f32_ = nullptr;                      // kF32: [out, in]
  int8_t* int8_ = nullptr;                    // kInt8Rotated: packed weights, ...
  float* scale_ = nullptr;                    // ... their scales ...
  int32_t* row_sum_ = nullptr;                // ... and sums
  uint8_t* packed_ = nullptr;                 // kBlocks: packed weights of ...
  std::vector<kernels::BlockMatrix> blocks_;  // ... a stack of matrices that differ in their bits
  float* norm_weight_ = nullptr;
  float* bias_ = nullptr;  // [out], or null
  DeviceMatrix on_device_;
};

}  // namespace lectern
