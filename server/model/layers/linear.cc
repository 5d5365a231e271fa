#include "server/model/layers/linear.h"

#include <utility>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/rows/add_bias.h"
#include "kernels/rows/hadamard.h"
#include "server/model/f32_product/row_product.h"
#include "server/model/kernel_status.h"

namespace lectern {
namespace {

// Wider blocks spread no better and cost more.
constexpr int64_t kWidestHadamard = 512;

int64_t HadamardBlock(int64_t width) {
  int64_t block = 1;
  while (block < kWidestHadamard && width % (2 * block) == 0) block *= 2;
  return block;
}

}  // namespace

struct Linear::Memory {
  AlignedBuffer<float> f32;      // [out, in]
  AlignedBuffer<int8_t> packed;  // kernels::PackedInt8Bytes
  AlignedBuffer<float> scale;
  AlignedBuffer<int32_t> row_sum;
  DeviceMatrix on_device;
  AlignedBuffer<float> bias;  // [out], or empty
};

absl::StatusOr<LinearForm> LinearForm::Of(ModelLoadOptions::Numerics numerics, int threads,
                                          Int8Device* device) {
  LinearForm form{.numerics = numerics, .threads = threads, .device = device};
  if (form.is_f32()) {
    LECTERN_ASSIGN_OR_RETURN(form.product, LoadF32Product());
  }
  return form;
}

absl::Status Linear::Load(const LinearForm& form, const TensorSource& source,
                          const LinearTensors& tensors) {
  form_ = form;
  in_ = tensors.weights[0]->cols();
  out_ = 0;
  for (const TensorView* weight : tensors.weights) out_ += weight->rows();
  auto memory = std::make_shared<Memory>();
  float* w = memory->f32.Reserve(out_ * in_);
  for (const TensorView* weight : tensors.weights) {
    LECTERN_RETURN_IF_ERROR(Dequantize(*weight, 0, weight->rows(), w));
    source.DontNeed(*weight);
    w += weight->rows() * in_;
  }
  std::vector<float> gain(in_, 1.0f);
  if (tensors.gain != nullptr)
    LECTERN_RETURN_IF_ERROR(Dequantize(*tensors.gain, 0, 1, gain.data()));
  w = memory->f32.data();
  for (int64_t i = 0; i < out_ * in_; ++i) w[i] *= gain[i % in_] * tensors.factor;
  if (!tensors.biases.empty()) {
    float* bias = memory->bias.Reserve(out_);
    for (const TensorView* part : tensors.biases) {
      LECTERN_RETURN_IF_ERROR(Dequantize(*part, 0, 1, bias));
      bias += part->cols();
    }
  }
  if (!form_.is_f32()) {
    hadamard_ = HadamardBlock(in_);
    const kernels::ExecutionContext alone;
    if (hadamard_ > 1) {
      LECTERN_RETURN_IF_ERROR(
          FromKernel(kernels::BlockHadamard(w, out_, in_, in_, hadamard_, alone), "hadamard"));
    }
    memory->packed.Reserve(kernels::PackedInt8Bytes(out_, in_));
    memory->scale.Reserve(kernels::PaddedChannels(out_));
    memory->row_sum.Reserve(kernels::PaddedChannels(out_));
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::PackInt8Rows(w, 0, out_, out_, in_, memory->packed.data(),
                                         memory->scale.data(), memory->row_sum.data()),
                   "pack_int8"));
    memory->f32 = {};
    if (form_.device != nullptr) {
      LECTERN_ASSIGN_OR_RETURN(memory->on_device, form_.device->Upload(MatrixOf(*memory)));
    }
  }
  memory_ = std::move(memory);
  return absl::OkStatus();
}

uint64_t Linear::bytes() const {
  const Memory& memory = *memory_;
  return sizeof(float) * (memory.f32.capacity() + memory.scale.capacity() +
                          memory.row_sum.capacity() + memory.bias.capacity()) +
         memory.packed.capacity();
}

absl::Status Linear::Run(const float* x, int64_t rows, float* y, bool accumulate,
                         const kernels::ExecutionContext& execution) const {
  LECTERN_RETURN_IF_ERROR(form_.is_f32() ? MultiplyRows(form_.product, form_.threads, x, rows, in_,
                                                        memory_->f32.data(), out_, y, accumulate)
                                         : RunInt8(x, rows, y, accumulate, execution));
  const float* bias = memory_->bias.data();
  if (bias == nullptr) return absl::OkStatus();
  return FromKernel(kernels::AddBias(bias, rows, out_, y, execution), "add_bias");
}

kernels::Int8Matrix Linear::MatrixOf(const Memory& memory) const {
  return {out_, in_, memory.packed.data(), memory.scale.data(), memory.row_sum.data()};
}

absl::Status Linear::RunInt8(const float* x, int64_t rows, float* y, bool accumulate,
                             const kernels::ExecutionContext& execution) const {
  const kernels::LinearInput input{.x = x, .m = rows, .stride = in_, .hadamard = hadamard_};
  return memory_->on_device.Multiply(input, MatrixOf(*memory_), y, out_, accumulate, execution);
}

}  // namespace lectern
