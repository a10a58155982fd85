# The library as a port of vcpkg, from a copy of its repository:
#   vcpkg install tokennorm --overlay-ports=cmake/packaging/vcpkg
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DTOKENNORM_BUILD_TESTS=OFF
    -DTOKENNORM_BUILD_EXAMPLES=OFF
    -DTOKENNORM_BUILD_BENCHMARKS=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/tokennorm)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug") # the headers are the library
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
