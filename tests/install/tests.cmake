# The project in this folder, built and run as a user would: from an installed package, with tokennorm
# as a subproject, and by a bare compiler with the flags that pkg-config gives.
set(prefix "${CMAKE_CURRENT_BINARY_DIR}/prefix")
set(project "${CMAKE_CURRENT_SOURCE_DIR}/install")

add_test(NAME install.clean COMMAND ${CMAKE_COMMAND} -E rm -rf "${prefix}")
add_test(NAME install.to_prefix
  COMMAND ${CMAKE_COMMAND} --install "${PROJECT_BINARY_DIR}" --config $<CONFIG> --prefix "${prefix}")
set_tests_properties(install.clean PROPERTIES FIXTURES_SETUP clean_prefix LABELS toolchain)
set_tests_properties(install.to_prefix PROPERTIES
  FIXTURES_REQUIRED clean_prefix FIXTURES_SETUP installed LABELS toolchain)

list(JOIN tokennorm_components "," components)
function(add_consumer_test name)
  set(binary_dir "${CMAKE_CURRENT_BINARY_DIR}/${name}")
  add_test(NAME install.${name}
    COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test "${project}" "${binary_dir}"
      --build-generator ${CMAKE_GENERATOR}
      --build-options "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-DEigen3_DIR=${Eigen3_DIR}"
        ${ARGN}
      --test-command "${binary_dir}/install_test")
  set_tests_properties(install.${name} PROPERTIES LABELS toolchain)
endfunction()

add_consumer_test(find_package "-DCOMPONENTS=${components}" "-Dtokennorm_ROOT=${prefix}")
add_consumer_test(add_subdirectory "-DCOMPONENTS=${components},compiled_kernels"
  "-DTOKENNORM_SOURCE_DIR=${PROJECT_SOURCE_DIR}" -DTOKENNORM_COMPILED_SCALARS=bfloat16
  -DCMAKE_CXX_FLAGS=-DTOKENNORM_MAX_ISA=0 -DTOKENNORM_COMPILED_MAX_ISA=0) # for the sake of time

# The compiled kernels in a debug build, and in a project with flags that these must not have.
set(other_flags "-ffast-math -DTOKENNORM_MAX_ISA=0")
set(plain_flags "-fno-fast-math -UTOKENNORM_MAX_ISA")
if(CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
  string(APPEND other_flags " -mavx2 -mfma")
  string(APPEND plain_flags " -mno-avx")
endif()
add_consumer_test(compiled_kernels -DCOMPONENTS=compiled_kernels "-Dtokennorm_ROOT=${prefix}"
  -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS=${other_flags}" "-DPLAIN_FLAGS=${plain_flags}")
set_tests_properties(install.find_package install.compiled_kernels
  PROPERTIES FIXTURES_REQUIRED installed)

find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG)
  add_test(NAME install.pkg_config
    COMMAND sh "${project}/pkg_config.sh" "${CMAKE_CXX_COMPILER}" "${CMAKE_CURRENT_BINARY_DIR}")
  set_tests_properties(install.pkg_config PROPERTIES
    LABELS toolchain
    FIXTURES_REQUIRED installed
    ENVIRONMENT "PKG_CONFIG=${PKG_CONFIG};PKG_CONFIG_PATH=${prefix}/share/pkgconfig")
endif()

# The library as one header.
add_test(NAME install.single_header
  COMMAND sh "${project}/single_header.sh" "${CMAKE_CXX_COMPILER}" "${CMAKE_COMMAND}"
    "${PROJECT_SOURCE_DIR}" "${CMAKE_CURRENT_BINARY_DIR}/single_header"
    $<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>)
set_tests_properties(install.single_header PROPERTIES LABELS toolchain)

# Other versions of Eigen, 3.4 or 5, that stand beside this project or where the variable says.
file(GLOB other_eigens LIST_DIRECTORIES true "${PROJECT_SOURCE_DIR}/../eigen-*")
set(TOKENNORM_OTHER_EIGENS ${other_eigens} CACHE STRING "Directories with Eigen/Core, to test with")
foreach(eigen IN LISTS TOKENNORM_OTHER_EIGENS)
  get_filename_component(name "${eigen}" NAME)
  add_test(NAME install.with_${name}
    COMMAND sh "${project}/other_eigen.sh" "${CMAKE_CXX_COMPILER}" "${PROJECT_SOURCE_DIR}"
      "${CMAKE_CURRENT_BINARY_DIR}/with_${name}" "${eigen}")
  set_tests_properties(install.with_${name} PROPERTIES LABELS toolchain)
endforeach()

# A Debian package, and the recipes of other package managers.
find_program(DPKG dpkg)
if(DPKG AND PROJECT_IS_TOP_LEVEL)
  add_test(NAME install.debian_package
    COMMAND sh "${project}/debian_package.sh" "${PROJECT_BINARY_DIR}"
      "${CMAKE_CURRENT_BINARY_DIR}/debian_package" "${CMAKE_CTEST_COMMAND}" --build-and-test
      "${project}" "${CMAKE_CURRENT_BINARY_DIR}/debian_package/consumer"
      --build-generator ${CMAKE_GENERATOR}
      --build-options "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-DEigen3_DIR=${Eigen3_DIR}"
        "-Dtokennorm_ROOT=${CMAKE_CURRENT_BINARY_DIR}/debian_package/system/usr"
        -DCMAKE_CXX_FLAGS=-DTOKENNORM_MAX_ISA=0 # for the sake of time
      --test-command "${CMAKE_CURRENT_BINARY_DIR}/debian_package/consumer/install_test")
  set_tests_properties(install.debian_package PROPERTIES LABELS toolchain)
endif()
add_test(NAME install.recipes_of_packages
  COMMAND ${CMAKE_COMMAND} -D VERSION=${PROJECT_VERSION} -P "${project}/recipes_of_packages.cmake")
set_tests_properties(install.recipes_of_packages PROPERTIES LABELS toolchain)
