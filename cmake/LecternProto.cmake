# lectern_proto_sources(OUT_VAR ROOT file.proto ... [GRPC]): generates C++ for protos below ROOT into
# the build tree and returns the sources in OUT_VAR. Generated headers are included by their path
# below ROOT, e.g. "lectern/v1/document_qa.grpc.pb.h".

find_program(PROTOC protoc REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
set(LECTERN_PROTO_OUT ${CMAKE_BINARY_DIR}/generated)

function(lectern_proto_sources out root)
  cmake_parse_arguments(ARG "GRPC" "" "PROTOS;IMPORTS" ${ARGN})
  file(MAKE_DIRECTORY ${LECTERN_PROTO_OUT})
  set(import_flags -I${root})
  foreach(dir ${ARG_IMPORTS})
    list(APPEND import_flags -I${dir})
  endforeach()
  set(sources)
  foreach(proto ${ARG_PROTOS})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(outputs ${LECTERN_PROTO_OUT}/${stem}.pb.cc ${LECTERN_PROTO_OUT}/${stem}.pb.h)
    set(flags --cpp_out=${LECTERN_PROTO_OUT})
    if(ARG_GRPC)
      list(APPEND outputs ${LECTERN_PROTO_OUT}/${stem}.grpc.pb.cc
           ${LECTERN_PROTO_OUT}/${stem}.grpc.pb.h)
      list(APPEND flags --grpc_out=${LECTERN_PROTO_OUT}
           --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN})
    endif()
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND ${PROTOC} ${import_flags} ${flags} ${proto}
      DEPENDS ${root}/${proto}
      VERBATIM)
    list(APPEND sources ${outputs})
  endforeach()
  set(${out} ${sources} PARENT_SCOPE)
endfunction()
