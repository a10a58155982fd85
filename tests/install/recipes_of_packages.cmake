# The recipes of package managers that are not here: they can be read, and have the library's version.
#   cmake -D VERSION=… -P recipes_of_packages.cmake
get_filename_component(packaging "${CMAKE_CURRENT_LIST_DIR}/../../cmake/packaging" ABSOLUTE)

file(READ "${packaging}/vcpkg/vcpkg.json" manifest)
string(JSON version GET "${manifest}" version)
if(NOT version STREQUAL VERSION)
  message(FATAL_ERROR "vcpkg.json has version ${version}; expected ${VERSION}")
endif()

# The port, with functions in place of vcpkg's own that take what they are given.
foreach(name vcpkg_cmake_configure vcpkg_cmake_install vcpkg_cmake_config_fixup
    vcpkg_fixup_pkgconfig vcpkg_install_copyright)
  function(${name})
    foreach(argument IN LISTS ARGN)
      if(IS_ABSOLUTE "${argument}" AND NOT EXISTS "${argument}")
        message(FATAL_ERROR "portfile.cmake speaks of ${argument}, which is not there")
      endif()
    endforeach()
  endfunction()
endforeach()
set(CURRENT_PACKAGES_DIR "${CMAKE_CURRENT_BINARY_DIR}/no_such_packages")
include("${packaging}/vcpkg/portfile.cmake")

find_program(PYTHON python3)
if(PYTHON)
  execute_process(
    COMMAND ${PYTHON} -c "import ast, sys; ast.parse(open(sys.argv[1]).read())"
      "${packaging}/conanfile.py"
    COMMAND_ERROR_IS_FATAL ANY)
endif()
