# What the system has comes first; a pinned archive is fetched only where it has none.
include(FetchContent)

# Eigen, 3.4 or 5. The version file of 3.4.0 refuses a range, and plain 3.4 refuses 5: ask twice.
find_package(Eigen3 3.4...5 CONFIG QUIET)
if(NOT TARGET Eigen3::Eigen)
  FetchContent_Declare(Eigen3
    URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
    URL_HASH SHA256=8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72
    DOWNLOAD_EXTRACT_TIMESTAMP TRUE
    SOURCE_SUBDIR headers_only # no such folder: Eigen's own CMake project is left alone
    FIND_PACKAGE_ARGS 3.4 CONFIG QUIET)
  FetchContent_MakeAvailable(Eigen3)
  if(NOT TARGET Eigen3::Eigen)
    # Imported, so that its headers are system headers and an installed tokennorm looks for them.
    add_library(Eigen3::Eigen INTERFACE IMPORTED GLOBAL)
    target_include_directories(Eigen3::Eigen INTERFACE "${eigen3_SOURCE_DIR}")
  endif()
endif()

if(TOKENNORM_BUILD_TESTS)
  set(INSTALL_GTEST OFF)
  FetchContent_Declare(GTest
    URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    URL_HASH SHA256=8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7
    DOWNLOAD_EXTRACT_TIMESTAMP TRUE
    FIND_PACKAGE_ARGS 1.11 CONFIG)
  FetchContent_MakeAvailable(GTest)
endif()
