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
add_consumer_test(add_subdirectory "-DCOMPONENTS=${components}"
  "-DTOKENNORM_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
set_tests_properties(install.find_package PROPERTIES FIXTURES_REQUIRED installed)

# A package with the compiled kernels, under a prefix of its own; built in a project with flags that
# these must not have.
set(compiled "${CMAKE_CURRENT_BINARY_DIR}/compiled_kernels")
set(flags -ffast-math -DTOKENNORM_MAX_ISA=0)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
  list(APPEND flags -mavx2 -mfma)
endif()
list(JOIN flags " " flags)
add_test(NAME install.compiled_kernels_to_prefix
  COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test "${PROJECT_SOURCE_DIR}" "${compiled}"
    --build-generator ${CMAKE_GENERATOR}
    --build-target install
    --build-options "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-DEigen3_DIR=${Eigen3_DIR}"
      "-DCMAKE_INSTALL_PREFIX=${compiled}/prefix" -DTOKENNORM_INSTALL_COMPILED_KERNELS=ON
      "-DCMAKE_CXX_FLAGS=${flags}"
      -DTOKENNORM_BUILD_TESTS=OFF -DTOKENNORM_BUILD_EXAMPLES=OFF -DTOKENNORM_BUILD_BENCHMARKS=OFF)
add_consumer_test(find_compiled_kernels -DCOMPONENTS=compiled_kernels
  "-Dtokennorm_ROOT=${compiled}/prefix")
set_tests_properties(install.compiled_kernels_to_prefix PROPERTIES
  FIXTURES_SETUP compiled_kernels LABELS toolchain)
set_tests_properties(install.find_compiled_kernels PROPERTIES FIXTURES_REQUIRED compiled_kernels)

find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG)
  add_test(NAME install.pkg_config
    COMMAND sh "${project}/pkg_config.sh" "${CMAKE_CXX_COMPILER}" "${CMAKE_CURRENT_BINARY_DIR}")
  set_tests_properties(install.pkg_config PROPERTIES
    LABELS toolchain
    FIXTURES_REQUIRED installed
    ENVIRONMENT "PKG_CONFIG=${PKG_CONFIG};PKG_CONFIG_PATH=${prefix}/share/pkgconfig")
endif()
