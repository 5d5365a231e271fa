# Finds LibTorch's CPU libraries in the unpacked PyPI wheel and makes the imported target
# libtorch::cpu. TorchConfig.cmake is not used: the wheel's own demands a CUDA toolkit, and with
# CMAKE_CXX_STANDARD 20 its probe fails on CMake 3.25.
#
# Link this target only where tensors are needed: its include directory also holds google/protobuf
# headers of another version.

set(_torch_root ${LECTERN_DEPS_DIR}/torch)
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_torch_root}/torch/include
          NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_torch_root}/torch/lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_torch_root}/torch/lib NO_DEFAULT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "run cmake/setup torch first, or set LECTERN_DEPS_DIR")

if(LibTorch_FOUND AND NOT TARGET libtorch::cpu)
  add_library(libtorch::c10 SHARED IMPORTED)
  set_target_properties(
    libtorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY}
                             INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR})
  add_library(libtorch::cpu SHARED IMPORTED)
  set_target_properties(
    libtorch::cpu
    PROPERTIES IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
               INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR}
               INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR}
               # libtorch_cpu.so of the wheel names libcudart and libcupti, which the loader finds by
               # its own rpath; the linker has to be told.
               INTERFACE_LINK_OPTIONS "LINKER:-rpath-link,${_torch_root}/nvidia/cu13/lib"
               INTERFACE_LINK_LIBRARIES libtorch::c10)
endif()
