#include "server/model/layers/linear.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/ffn/activate.h"
#include "kernels/rows/add_bias.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/rms_norm.h"
#include "server/model/f32_product/row_product.h"
#include "server/model/kernel_status.h"

namespace lectern {

using kernels::LinearInput;
using Numerics = ModelLoadOptions::Numerics;

LinearForm LinearForm::Described(Numerics numerics, int threads, Int8Device* device) {
  if (numerics == Numerics::kAuto) numerics = Numerics::kInt8Rotated;
  return {.numerics = numerics,
          .rotated = numerics == Numerics::kInt8Rotated,
          .threads = threads,
          .device = device};
}

absl::StatusOr<LinearForm> LinearForm::Of(Numerics numerics, int threads, Int8Device* device) {
  LinearForm form = Described(numerics, threads, device);
  if (form.is_f32()) {
    LECTERN_ASSIGN_OR_RETURN(form.product, LoadF32Product());
  }
  return form;
}

const char* LinearForm::name() const {
  switch (numerics) {
    case Numerics::kF32:
      return "f32";
    case Numerics::kBlocks:
      return "blocks";
    case Numerics::kInt8Rotated:
    case Numerics::kAuto:
      break;
  }
  return "int8-rotated";
}

kernels::KvType LinearForm::kv_type() const {
  return is_f32() ? kernels::KvType::kF32 : kernels::KvType::kI8;
}

const char* LinearForm::kv_name() const { return is_f32() ? "f32" : "int8"; }

absl::Status Linear::Run(const float* x, int64_t rows, float* y, bool accumulate,
                         const kernels::ExecutionContext& execution) const {
  return Multiply({.x = x, .m = rows, .stride = in_}, y, accumulate, execution);
}

absl::Status Linear::RunNormed(const float* x, int64_t rows, float* y,
                               const kernels::ExecutionContext& execution) const {
  return Multiply({.x = x,
                   .m = rows,
                   .stride = in_,
                   .step = LinearInput::Step::kRmsNorm,
                   .rms_eps = norm_epsilon_,
                   .rms_weight = norm_weight_},
                  y, /*accumulate=*/false, execution);
}

absl::Status Linear::RunGated(kernels::FfnActivation activation, const float* gate_up, int64_t rows,
                              float* y, bool accumulate,
                              const kernels::ExecutionContext& execution) const {
  return Multiply({.x = gate_up,
                   .m = rows,
                   .stride = 2 * in_,
                   .step = LinearInput::Step::kGated,
                   .activation = activation},
                  y, accumulate, execution);
}

absl::Status Linear::Multiply(LinearInput input, float* y, bool accumulate,
                              const kernels::ExecutionContext& execution) const {
  input.hadamard = hadamard_;
  switch (form_.numerics) {
    case Numerics::kF32:
      LECTERN_RETURN_IF_ERROR(MultiplyF32(input, y, accumulate, execution));
      break;
    case Numerics::kBlocks:
      LECTERN_RETURN_IF_ERROR(FromKernel(
          kernels::BlockLinear(input, blocks_, y, out_, accumulate, execution), "block_linear"));
      break;
    case Numerics::kInt8Rotated:
    case Numerics::kAuto:
      LECTERN_RETURN_IF_ERROR(on_device_.Multiply(input, Int8(), y, out_, accumulate, execution));
      break;
  }
  if (bias_ == nullptr) return absl::OkStatus();
  return FromKernel(kernels::AddBias(bias_, input.m, out_, y, execution), "add_bias");
}

// LibTorch takes dense rows as they are, so what the int8 kernels do to a row on its way into the
// product is done and stored first.
absl::Status Linear::MultiplyF32(const LinearInput& input, float* y, bool accumulate,
                                 const kernels::ExecutionContext& execution) const {
  const float* x = input.x;
  AlignedBuffer<float> stored;
  if (input.step != LinearInput::Step::kNone || input.hadamard > 1) {
    float* rows = stored.Reserve(input.m * in_);
    switch (input.step) {
      case LinearInput::Step::kNone:
        std::copy_n(x, input.m * in_, rows);
        break;
      case LinearInput::Step::kRmsNorm:
        LECTERN_RETURN_IF_ERROR(FromKernel(
            kernels::RmsNorm(x, input.m, in_, input.rms_weight, input.rms_eps, rows, execution),
            "rms_norm"));
        break;
      case LinearInput::Step::kGated:
        LECTERN_RETURN_IF_ERROR(
            FromKernel(kernels::Activate(input.activation, x, input.stride, x + in_, input.stride,
                                         input.m, in_, rows, in_, execution),
                       "activate"));
        break;
    }
    if (input.hadamard > 1) {
      LECTERN_RETURN_IF_ERROR(FromKernel(
          kernels::BlockHadamard(rows, input.m, in_, in_, input.hadamard, execution), "hadamard"));
    }
    x = rows;
  }
  return MultiplyRows(form_.product, execution.num_threads, x, input.m, in_, f32_, out_, y,
                      accumulate);
}

}  // namespace lectern
