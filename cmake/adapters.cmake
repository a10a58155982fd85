# The adapters that have a dependency, each a target of its own where that is found.
set(tokennorm_adapters)          # those that there are
set(tokennorm_adapters_left_out)

# add_adapter(NAME DEPENDENCY): tokennorm::NAME, with the header adapters/NAME.hpp.
function(add_adapter name dependency)
  if(NOT TARGET ${dependency})
    set(tokennorm_adapters_left_out ${tokennorm_adapters_left_out} ${name} PARENT_SCOPE)
    message(STATUS "tokennorm: no ${dependency}, so no tokennorm::${name}")
    return()
  endif()
  add_library(tokennorm_${name} INTERFACE)
  add_library(tokennorm::${name} ALIAS tokennorm_${name})
  target_link_libraries(tokennorm_${name} INTERFACE tokennorm ${dependency})
  set_target_properties(tokennorm_${name} PROPERTIES
    EXPORT_NAME ${name}
    VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
  target_sources(tokennorm_${name} INTERFACE FILE_SET HEADERS BASE_DIRS include FILES
    include/tokennorm/adapters/${name}.hpp)
  set(tokennorm_adapters ${tokennorm_adapters} ${name} PARENT_SCOPE)
endfunction()

find_package(OpenMP QUIET COMPONENTS CXX)
find_package(Threads QUIET)
add_adapter(openmp OpenMP::OpenMP_CXX)
add_adapter(thread_pool Threads::Threads)
