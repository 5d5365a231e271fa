// liblectern_f32.so: the one file with LibTorch.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <exception>

#include "server/model/f32_product/f32_product.h"

// LibTorch reports errors by exceptions; none may leave this file.
extern "C" __attribute__((visibility("default"))) int lectern_f32_product(
    const float* x, int64_t rows, int64_t in, const float* w, int64_t out, float* y,
    int64_t y_stride, int accumulate, char* error, size_t error_size) try {
  if (at::get_num_threads() != 1) at::set_num_threads(1);  // of the calling thread
  const c10::InferenceMode inference;
  const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat);
  // ATen takes no const memory; the inputs are only read.
  const at::Tensor input = at::from_blob(const_cast<float*>(x), {rows, in}, options);
  const at::Tensor weight = at::from_blob(const_cast<float*>(w), {out, in}, options);
  at::Tensor output = at::from_blob(y, {rows, out}, {y_stride, 1}, options);
  if (accumulate != 0) {
    at::addmm_out(output, output, input, weight.t());
  } else {
    at::mm_out(output, input, weight.t());
  }
  return 0;
} catch (const std::exception& failure) {
  std::snprintf(error, error_size, "%s", failure.what());
  return 1;
}

// The function is what the loader looks for.
static_assert(std::is_same_v<decltype(lectern_f32_product), lectern::F32ProductFunction>);
