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
  COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
install(
  FILES
    "${PROJECT_BINARY_DIR}/tokennorm-config.cmake"
    "${PROJECT_BINARY_DIR}/tokennorm-config-version.cmake"
    cmake/compiled_kernels.cmake
  DESTINATION ${package_dir})

# Eigen's headers are the system's, whose warnings are not the user's: with -isystem a compiler
# ignores the -I that Eigen's own file gives. An Eigen that was fetched stays where it is.
set(tokennorm_eigen_flags)
if(NOT eigen3_SOURCE_DIR)
  get_target_property(tokennorm_eigen_directories Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
  list(TRANSFORM tokennorm_eigen_directories PREPEND " -isystem " OUTPUT_VARIABLE tokennorm_eigen_flags)
  list(JOIN tokennorm_eigen_flags "" tokennorm_eigen_flags)
endif()
configure_file(cmake/tokennorm.pc.in tokennorm.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/tokennorm.pc" DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON) # headers need no build
  include(cmake/packaging/debian.cmake)
endif()
