// Offloads the integer part of int8 matrix products to a GPU, through a plug-in that is loaded on
// request (kernels/cuda/int8_plugin.h).
//
// Only products of kMinDeviceRows rows or more go there: prompts, documents and encoders. Single
// tokens, attention and everything else stay on the CPU, where the keys and values are. The CPU
// rounds rows to integers and converts sums to floats, so a product has the same bits with a device
// as without (kernels/linear/int8_offload.h).
//
// After a failure the device is not used again: the CPU computes that product and all later ones.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "kernels/cuda/int8_plugin.h"
#include "kernels/linear/int8_linear.h"
#include "kernels/linear/linear_input.h"
#include "kernels/runtime/execution_context.h"

namespace lectern {

// With fewer rows the transfers cost more than the device saves. Chosen, not measured.
inline constexpr int64_t kMinDeviceRows = 16;

class DeviceMatrix;

// Thread-safe. A device has one stream and one pair of staging buffers, so products and uploads
// wait for each other.
class Int8Device : public std::enable_shared_from_this<Int8Device> {
 public:
  // Called at most once, from any thread, with the error code when the device fails.
  using ErrorObserver = std::function<void(std::string_view code)>;

  // `library` is as for LoadPluginFunction. FAILED_PRECONDITION when it is missing, has another
  // version, or finds no device; RESOURCE_EXHAUSTED when the device's memory is full.
  static absl::StatusOr<std::shared_ptr<Int8Device>> Open(const std::string& library,
                                                          ErrorObserver on_error);
  // Opens liblectern_cuda.so; errors name --device=cuda.
  static absl::StatusOr<std::shared_ptr<Int8Device>> OpenCuda(ErrorObserver on_error);

  ~Int8Device();
  Int8Device(const Int8Device&) = delete;
  Int8Device& operator=(const Int8Device&) = delete;

  std::string name() const { return device_.name; }

  // Copies the weights of a packed matrix. A matrix whose rows are too long for the staging buffers
  // stays on the CPU: the result is then a DeviceMatrix without a device. Errors are Open's.
  absl::StatusOr<DeviceMatrix> Upload(const kernels::Int8Matrix& w);

 private:
  friend class DeviceMatrix;

  Int8Device(const kernels::Int8Plugin& plugin, ErrorObserver on_error)
      : plugin_(plugin), on_error_(std::move(on_error)) {}

  // Computes the first rows of the product, all of them unless the device fails; returns how many.
  int64_t Multiply(const void* matrix, const kernels::LinearInput& input,
                   const kernels::Int8Matrix& w, float* y, int64_t y_stride, bool accumulate,
                   const kernels::ExecutionContext& execution);
  // Rows of one product that the staging buffers hold.
  int64_t StagedRows(const kernels::Int8Matrix& w) const;
  void Release(void* matrix);
  void Fail(const kernels::Int8PluginError& error);

  const kernels::Int8Plugin& plugin_;
  const ErrorObserver on_error_;
  kernels::Int8PluginDevice device_{};  // constant once open, except for the buffers' contents
  std::atomic<bool> failed_ = false;
  Mutex mutex_;  // held for every call of plugin_ and while the buffers are in use
  std::vector<float> x_scale_ ABSL_GUARDED_BY(mutex_);
};

// The weights of one matrix in a device's memory, or none. Const after construction; any thread may
// multiply by it. Keeps its device open.
class DeviceMatrix {
 public:
  DeviceMatrix() = default;
  DeviceMatrix(std::shared_ptr<Int8Device> device, void* matrix)
      : device_(std::move(device)), matrix_(matrix) {}
  ~DeviceMatrix();
  DeviceMatrix(DeviceMatrix&& other) noexcept { *this = std::move(other); }
  DeviceMatrix& operator=(DeviceMatrix&& other) noexcept;

  // kernels::Int8Linear(input, w, ...), on the device where that pays. `w` is the matrix
  // that was uploaded.
  absl::Status Multiply(const kernels::LinearInput& input, const kernels::Int8Matrix& w, float* y,
                        int64_t y_stride, bool accumulate,
                        const kernels::ExecutionContext& execution) const;

 private:
  std::shared_ptr<Int8Device> device_;
  void* matrix_ = nullptr;
};

}  // namespace lectern
