#include "server/model/device/int8_device.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/plugin_library.h"
#include "base/status_macros.h"
#include "kernels/linear/int8_offload.h"
#include "server/model/kernel_status.h"

namespace lectern {
namespace {

using kernels::Int8PluginError;

constexpr char kCudaLibrary[] = "liblectern_cuda.so";

int64_t GroupsOf(const kernels::Int8Matrix& w) { return (w.k + 3) / 4; }

absl::Status ErrorOf(const Int8PluginError& error, const char* what) {
  const std::string message = absl::StrCat(what, ": ", error.code, ": ", error.text);
  return error.out_of_memory ? absl::ResourceExhaustedError(message)
                             : absl::FailedPreconditionError(message);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Int8Device>> Int8Device::Open(const std::string& library,
                                                             ErrorObserver on_error) {
  const absl::StatusOr<void*> function = LoadPluginFunction(library, kernels::kInt8PluginFunction);
  if (!function.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("needs ", function.status().message()));
  }
  const kernels::Int8Plugin& plugin = *reinterpret_cast<kernels::Int8PluginFunction*>(*function)();
  if (plugin.version != kernels::kInt8PluginVersion) {
    return absl::FailedPreconditionError(absl::StrCat(library, " is of version ", plugin.version,
                                                      ", this program needs version ",
                                                      kernels::kInt8PluginVersion));
  }
  std::shared_ptr<Int8Device> device(new Int8Device(plugin, std::move(on_error)));
  Int8PluginError error{};
  if (!plugin.open(&device->device_, &error)) return ErrorOf(error, "no device");
  return device;
}

absl::StatusOr<std::shared_ptr<Int8Device>> Int8Device::OpenCuda(ErrorObserver on_error) {
  auto device = Open(kCudaLibrary, std::move(on_error));
  if (device.ok()) return device;
  return absl::Status(device.status().code(),
                      absl::StrCat("--device=cuda: ", device.status().message()));
}

Int8Device::~Int8Device() {
  if (device_.state != nullptr) plugin_.close(&device_);
}

int64_t Int8Device::StagedRows(const kernels::Int8Matrix& w) const {
  return std::min(device_.x_words / GroupsOf(w), device_.sums_words / kernels::PaddedChannels(w.n));
}

absl::StatusOr<DeviceMatrix> Int8Device::Upload(const kernels::Int8Matrix& w) {
  if (StagedRows(w) < kMinDeviceRows) return DeviceMatrix();
  void* matrix = nullptr;
  Int8PluginError error{};
  {
    const MutexLock lock(&mutex_);
    if (!plugin_.upload(&device_, w.packed, kernels::PackedInt8Bytes(w.n, w.k), &matrix, &error)) {
      return ErrorOf(error, "--device: a copy of the weights");
    }
  }
  return DeviceMatrix(shared_from_this(), matrix);
}

void Int8Device::Release(void* matrix) {
  const MutexLock lock(&mutex_);
  plugin_.release(&device_, matrix);
}

void Int8Device::Fail(const Int8PluginError& error) {
  failed_ = true;
  LogError("int8 GPU offload failed; falling back to the CPU",
           {{"code", error.code}, {"error", error.text}});
  if (on_error_ != nullptr) on_error_(error.code);
}

int64_t Int8Device::Multiply(const void* matrix, const kernels::LinearInput& input,
                             const kernels::Int8Matrix& w, float* y, int64_t y_stride,
                             bool accumulate, const kernels::ExecutionContext& execution) {
  const int64_t groups = GroupsOf(w);
  const int64_t blocks = kernels::PaddedChannels(w.n) / 64;
  const int64_t staged_rows = std::min(input.m, StagedRows(w));
  const MutexLock lock(&mutex_);
  x_scale_.resize(staged_rows);
  for (int64_t row = 0; row < input.m; row += staged_rows) {
    if (failed_) return row;
    kernels::LinearInput part = input;
    part.x += row * input.stride;
    part.m = std::min(staged_rows, input.m - row);
    Int8PluginError error{};
    // The CPU's product reports arguments that the kernels refuse.
    if (!Ok(kernels::QuantizeInt8Rows(part, w.k, reinterpret_cast<int8_t*>(device_.x),
                                      x_scale_.data(), execution))) {
      return row;
    }
    if (!plugin_.multiply(&device_, matrix, part.m, groups, blocks, &error)) {
      Fail(error);
      return row;
    }
    if (!Ok(kernels::FinishInt8Sums(device_.sums, x_scale_.data(), part.m, w, y + row * y_stride,
                                    y_stride, accumulate, execution))) {
      return row;
    }
  }
  return input.m;
}

DeviceMatrix::~DeviceMatrix() {
  if (device_ != nullptr) device_->Release(matrix_);
}

DeviceMatrix& DeviceMatrix::operator=(DeviceMatrix&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(matrix_, other.matrix_);
  return *this;
}

absl::Status DeviceMatrix::Multiply(const kernels::LinearInput& input, const kernels::Int8Matrix& w,
                                    float* y, int64_t y_stride, bool accumulate,
                                    const kernels::ExecutionContext& execution) const {
  kernels::LinearInput rest = input;
  if (device_ != nullptr && input.m >= kMinDeviceRows) {
    const int64_t done = device_->Multiply(matrix_, input, w, y, y_stride, accumulate, execution);
    if (done == input.m) return absl::OkStatus();
    rest.x += done * input.stride;
    rest.m -= done;
    y += done * y_stride;
  }
  return FromKernel(kernels::Int8Linear(rest, w, y, y_stride, accumulate, execution),
                    "int8_linear");
}

}  // namespace lectern
