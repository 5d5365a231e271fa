// liblectern_cuda.so, the only file with CUDA. It has been compiled and linked, but has never run
// on a GPU. It uses device 0; CUDA_VISIBLE_DEVICES chooses which one that is.
#include "kernels/cuda/int8_plugin.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <memory>
#include <new>
#include <type_traits>

#include "kernels/cuda/int8_product_thread.h"

namespace lectern::kernels {
namespace {

// The staging buffers: 16 and 64 MiB.
constexpr int64_t kXWords = int64_t{4} << 20;
constexpr int64_t kSumsWords = int64_t{16} << 20;

__global__ void __launch_bounds__(kInt8ProductThreads) Int8Sums(Int8SumsProblem problem) {
  __shared__ int32_t tile[kInt8TileWords];
  Int8ProductThread thread(problem, blockIdx.x, blockIdx.y, threadIdx.x);
  for (int64_t chunk = 0; chunk < problem.chunks(); ++chunk) {
    thread.Load(chunk, tile);
    __syncthreads();
    thread.Accumulate(chunk, tile);
    __syncthreads();
  }
  thread.Store();
}

// Owns the resources on a device; members are null until they are created.
struct State {
  ~State() {
    cudaFreeHost(host_x);
    cudaFreeHost(host_sums);
    cudaFree(x);
    cudaFree(sums);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  cudaStream_t stream = nullptr;
  int32_t* host_x = nullptr;
  int32_t* host_sums = nullptr;
  int32_t* x = nullptr;
  int32_t* sums = nullptr;
};

const State& StateOf(const Int8PluginDevice* device) {
  return *static_cast<const State*>(device->state);
}

bool Succeeded(cudaError_t result, Int8PluginError* error) {
  if (result == cudaSuccess) return true;
  std::snprintf(error->code, sizeof(error->code), "%s", cudaGetErrorName(result));
  std::snprintf(error->text, sizeof(error->text), "%s", cudaGetErrorString(result));
  error->out_of_memory = result == cudaErrorMemoryAllocation;
  return false;
}

template <typename T>
cudaError_t Allocate(T** memory, int64_t count) {
  return cudaMalloc(reinterpret_cast<void**>(memory), count * sizeof(T));
}

template <typename T>
cudaError_t AllocateHost(T** memory, int64_t count) {
  return cudaMallocHost(reinterpret_cast<void**>(memory), count * sizeof(T));
}

bool Open(Int8PluginDevice* device, Int8PluginError* error) {
  cudaDeviceProp properties;
  if (!Succeeded(cudaGetDeviceProperties(&properties, 0), error)) return false;
  std::unique_ptr<State> state(new (std::nothrow) State);
  if (state == nullptr) return Succeeded(cudaErrorMemoryAllocation, error);
  if (!Succeeded(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking), error) ||
      !Succeeded(AllocateHost(&state->host_x, kXWords), error) ||
      !Succeeded(AllocateHost(&state->host_sums, kSumsWords), error) ||
      !Succeeded(Allocate(&state->x, kXWords), error) ||
      !Succeeded(Allocate(&state->sums, kSumsWords), error)) {
    return false;
  }
  std::snprintf(device->name, sizeof(device->name), "%s", properties.name);
  device->x = state->host_x;
  device->x_words = kXWords;
  device->sums = state->host_sums;
  device->sums_words = kSumsWords;
  device->state = state.release();
  return true;
}

void Close(const Int8PluginDevice* device) { delete static_cast<State*>(device->state); }

bool Upload(const Int8PluginDevice* device, const int8_t* packed, size_t bytes, void** matrix,
            Int8PluginError* error) {
  void* memory = nullptr;
  if (!Succeeded(cudaMalloc(&memory, bytes), error)) return false;
  const cudaStream_t stream = StateOf(device).stream;
  if (!Succeeded(cudaMemcpyAsync(memory, packed, bytes, cudaMemcpyHostToDevice, stream), error) ||
      !Succeeded(cudaStreamSynchronize(stream), error)) {
    cudaFree(memory);
    return false;
  }
  *matrix = memory;
  return true;
}

void Release(const Int8PluginDevice*, void* matrix) { cudaFree(matrix); }

bool Multiply(const Int8PluginDevice* device, const void* matrix, int64_t rows, int64_t groups,
              int64_t blocks, Int8PluginError* error) {
  const State& state = StateOf(device);
  const Int8SumsProblem problem{.x = state.x,
                                .weights = static_cast<const int32_t*>(matrix),
                                .sums = state.sums,
                                .rows = rows,
                                .groups = groups,
                                .blocks = blocks};
  const size_t x_bytes = rows * groups * sizeof(int32_t);
  const size_t sums_bytes = rows * blocks * kInt8BlockChannels * sizeof(int32_t);
  if (!Succeeded(
          cudaMemcpyAsync(state.x, state.host_x, x_bytes, cudaMemcpyHostToDevice, state.stream),
          error)) {
    return false;
  }
  // The second dimension of a grid is limited to 65,535 blocks, which sums of 5 rows would reach;
  // the caller sends 16 rows or more.
  const dim3 grid(static_cast<unsigned>(problem.row_tiles()), static_cast<unsigned>(blocks));
  Int8Sums<<<grid, kInt8ProductThreads, 0, state.stream>>>(problem);
  return Succeeded(cudaGetLastError(), error) &&
         Succeeded(cudaMemcpyAsync(state.host_sums, state.sums, sums_bytes, cudaMemcpyDeviceToHost,
                                   state.stream),
                   error) &&
         Succeeded(cudaStreamSynchronize(state.stream), error);
}

constexpr Int8Plugin kPlugin{kInt8PluginVersion, Open, Close, Upload, Release, Multiply};

}  // namespace
}  // namespace lectern::kernels

extern "C" __attribute__((visibility("default"))) const lectern::kernels::Int8Plugin*
lectern_int8_plugin() {
  return &lectern::kernels::kPlugin;
}

// The loader looks up this function by name.
static_assert(std::is_same_v<decltype(lectern_int8_plugin), lectern::kernels::Int8PluginFunction>);
