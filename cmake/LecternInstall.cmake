# `cmake --install build/PRESET --prefix P` installs the two programs and the C++ client, which another
# project uses as
#
#   find_package(lectern REQUIRED)
#   target_link_libraries(program PRIVATE lectern::client)
#
# The public headers are those of client/cpp/include, error_details.h and the generated protos.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/lectern)

install(TARGETS lectern-server lectern RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

foreach(name client proto protocol base)
  set_target_properties(lectern_${name} PROPERTIES EXPORT_NAME ${name})
endforeach()
install(TARGETS lectern_client lectern_proto lectern_protocol lectern_base
        EXPORT lectern_targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT lectern_targets NAMESPACE lectern:: DESTINATION ${package_dir})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/client/cpp/include/lectern
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_SOURCE_DIR}/base/error_details.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lectern)
install(DIRECTORY ${LECTERN_PROTO_OUT}/lectern/v1
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lectern
        FILES_MATCHING PATTERN "*.pb.h")

configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/lectern-config.cmake.in ${CMAKE_BINARY_DIR}/lectern-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(
  ${CMAKE_BINARY_DIR}/lectern-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/lectern-config.cmake
              ${CMAKE_BINARY_DIR}/lectern-config-version.cmake
        DESTINATION ${package_dir})
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE ${CMAKE_SOURCE_DIR}/THIRD_PARTY.md
        DESTINATION ${CMAKE_INSTALL_DOCDIR})
