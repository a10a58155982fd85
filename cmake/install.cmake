include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/tokennorm) # whatever the architecture

install(TARGETS tokennorm EXPORT tokennorm-targets FILE_SET HEADERS)
install(EXPORT tokennorm-targets NAMESPACE tokennorm:: DESTINATION ${package_dir})
# Each component has a file of its own: its dependency is for those who ask for it.
foreach(component IN LISTS tokennorm_components)
  install(TARGETS tokennorm_${component} EXPORT tokennorm-${component}-targets FILE_SET HEADERS)
  install(EXPORT tokennorm-${component}-targets NAMESPACE tokennorm:: DESTINATION ${package_dir})
endforeach()

configure_package_config_file(cmake/tokennorm-config.cmake.in tokennorm-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(tokennorm-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(
  FILES
    "${PROJECT_BINARY_DIR}/tokennorm-config.cmake"
    "${PROJECT_BINARY_DIR}/tokennorm-config-version.cmake"
    cmake/compiled_kernels.cmake
  DESTINATION ${package_dir})

configure_file(cmake/tokennorm.pc.in tokennorm.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/tokennorm.pc" DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
