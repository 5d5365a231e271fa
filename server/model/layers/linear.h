// A linear layer, y = x W^T + b, in the numerics that its model was loaded with; what families
// share.
//
// kF32: LibTorch's product of fp32 (row_product.h). kInt8Rotated: int8 weights and activations
// (kernels/linear/int8_linear.h); the input is mixed in Hadamard blocks on its way into the product
// and the weights hold the inverse, which spreads outlier channels (QuaRot, Ashkboos et al. 2024,
// arXiv 2404.00456) without asking anything of the layers around.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/linear/int8_linear.h"
#include "kernels/runtime/execution_context.h"
#include "server/formats/tensor_source.h"
#include "server/model/device/int8_device.h"
#include "server/model/f32_product/f32_product.h"
#include "server/model/load_options.h"

namespace lectern {

// How the linear layers of one model compute. Plain data.
struct LinearForm {
  ModelLoadOptions::Numerics numerics = ModelLoadOptions::Numerics::kInt8Rotated;
  F32ProductFunction* product = nullptr;  // of kF32
  int threads = 1;                        // of kF32: its bits depend on how many there are
  Int8Device* device = nullptr;           // of kInt8Rotated; null: none

  // Loads what the numerics need.
  static absl::StatusOr<LinearForm> Of(ModelLoadOptions::Numerics numerics, int threads,
                                       Int8Device* device = nullptr);
  bool is_f32() const { return numerics == ModelLoadOptions::Numerics::kF32; }
};

// Where a layer's weights are in the file. Several matrices with the same input are stacked into
// one layer, in order.
struct LinearTensors {
  std::vector<const TensorView*> weights;  // [out, in] each
  std::vector<const TensorView*> biases;   // [out] each, or none
  const TensorView* gain = nullptr;        // [in] of the norm before it, folded into W; or null
  float factor = 1;                        // on the weights
};

// Const after Load; any thread may run it.
class Linear {
 public:
  // Any number of layers may be loaded side by side. Errors are Dequantize's.
  absl::Status Load(const LinearForm& form, const TensorSource& source,
                    const LinearTensors& tensors);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  uint64_t bytes() const;  // memory held

  // y [rows, out] = x [rows, in] W^T + b, or += that with accumulate; dense. x may not be y.
  absl::Status Run(const float* x, int64_t rows, float* y, bool accumulate,
                   const kernels::ExecutionContext& execution) const;

 private:
  struct Memory;
  kernels::Int8Matrix MatrixOf(const Memory& memory) const;  // of kInt8Rotated
  absl::Status RunInt8(const float* x, int64_t rows, float* y, bool accumulate,
                       const kernels::ExecutionContext& execution) const;

  LinearForm form_;
  int64_t in_ = 0;
  int64_t out_ = 0;
  int64_t hadamard_ = 1;
  std::shared_ptr<const Memory> memory_;
};

}  // namespace lectern
