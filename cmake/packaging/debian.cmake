# A Debian package, from a build directory:  cpack -G DEB
# It is for every architecture: the headers are the library.
install(FILES LICENSE DESTINATION share/doc/libtokennorm-dev RENAME copyright
  COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES README.md DESTINATION share/doc/libtokennorm-dev
  COMPONENT debian EXCLUDE_FROM_ALL)
set(CPACK_INSTALL_CMAKE_PROJECTS
  "${PROJECT_BINARY_DIR};${PROJECT_NAME};ALL;/"
  "${PROJECT_BINARY_DIR};${PROJECT_NAME};debian;/")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME libtokennorm-dev)
set(CPACK_PACKAGE_CONTACT "tokennorm authors")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= 3.4)")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "nlohmann-json3-dev, libomp-dev, libopenmpi-dev, pkg-config")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "LayerNorm and RMSNorm, and the residual placements around the
sublayers of a transformer, forward and backward, on the CPU: a header-only C++20 library.")
include(CPack)
