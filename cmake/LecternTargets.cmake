# Defines lectern_library(), lectern_executable() and lectern_test(). Every target of the project is made
# by one of them, so that warnings, sanitizers and include paths are the same everywhere.

set(LECTERN_WARNINGS -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wnon-virtual-dtor -Woverloaded-virtual
                     -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports impossible overlaps inside std::string (bug 105651).
  list(APPEND LECTERN_WARNINGS -Wno-restrict)
endif()
set(LECTERN_HARDENING -fstack-protector-strong -D_GLIBCXX_ASSERTIONS)

function(_lectern_common target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE ${LECTERN_WARNINGS} ${LECTERN_HARDENING})
  if(LECTERN_WERROR_THREAD_SAFETY)
    target_compile_options(${target} PRIVATE -Wthread-safety -Werror=thread-safety)
  endif()
  if(LECTERN_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${LECTERN_SANITIZE}
                                             -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${LECTERN_SANITIZE})
  endif()
endfunction()

# lectern_library(NAME SOURCES a.cc ... [DEPS public...] [PRIVATE_DEPS ...])
# Makes lectern_NAME with the alias lectern::NAME. Without SOURCES it is an interface library.
function(lectern_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target lectern_${name})
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    target_link_libraries(${target} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
    _lectern_common(${target})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ${ARG_DEPS})
  endif()
  add_library(lectern::${name} ALIAS ${target})
endfunction()

# lectern_isa_flags(SOURCES...): compiles the sources of the current folder whose names end in _avx2.cc
# or _avx512.cc for that instruction set.
function(lectern_isa_flags)
  set(avx2_flags -mavx2 -mfma -mf16c)
  # GCC 12 takes its own intrinsics for uninitialised variables (bug 105593).
  set(avx512_flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c
                   -mprefer-vector-width=512 -Wno-maybe-uninitialized -Wno-uninitialized)
  foreach(source IN LISTS ARGN)
    if(source MATCHES "_(avx2|avx512)\\.cc$")
      set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS "${${CMAKE_MATCH_1}_flags}")
    endif()
  endforeach()
endfunction()

# lectern_module(NAME SOURCES a.cc ... DEPS ...)
# Makes build/PRESET/bin/liblectern_NAME.so, a library that programs load at run time.
function(lectern_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  set(target lectern_${name})
  add_library(${target} MODULE ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE ${ARG_DEPS})
  _lectern_common(${target})
  set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# lectern_executable(NAME SOURCES a.cc ... DEPS ...)
# Makes the program build/PRESET/bin/NAME.
function(lectern_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  _lectern_common(${name})
endfunction()

# lectern_test(NAME SOURCES a.cc ... DEPS ... [LABELS ...] [TIMEOUT s] [ENVIRONMENT K=V...])
# Labels: `tsan`: also runs under ThreadSanitizer, so it must use neither gRPC nor LibTorch.
#         `golden`: compares with tests/golden or $LECTERN_GOLDEN_DIR.
#         `model`: needs the real default model.
#         `source`: checks the sources rather than a build.
function(lectern_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS;ENVIRONMENT" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  _lectern_common(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(
    ${name}
    PROPERTIES TIMEOUT ${ARG_TIMEOUT}
               LABELS "${ARG_LABELS}"
               SKIP_RETURN_CODE 77
               ENVIRONMENT "LECTERN_SOURCE_DIR=${CMAKE_SOURCE_DIR};LECTERN_BIN_DIR=${CMAKE_BINARY_DIR}/bin;LECTERN_DEPS_DIR=${LECTERN_DEPS_DIR};${ARG_ENVIRONMENT}")
endfunction()
