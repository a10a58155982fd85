# The parts that have a dependency, each a target of its own where that is found.
set(tokennorm_components)       # those that there are
set(tokennorm_headers_left_out) # of the others

# add_component(NAME DEPENDENCY HEADER...): tokennorm::NAME, with headers of include/tokennorm.
function(add_component name dependency)
  list(TRANSFORM ARGN PREPEND include/tokennorm/ OUTPUT_VARIABLE headers)
  if(NOT TARGET ${dependency})
    set(tokennorm_headers_left_out ${tokennorm_headers_left_out} ${headers} PARENT_SCOPE)
    message(STATUS "tokennorm: no ${dependency}, so no tokennorm::${name}")
    return()
  endif()
  add_library(tokennorm_${name} INTERFACE)
  add_library(tokennorm::${name} ALIAS tokennorm_${name})
  target_link_libraries(tokennorm_${name} INTERFACE tokennorm ${dependency})
  set_target_properties(tokennorm_${name} PROPERTIES
    EXPORT_NAME ${name}
    VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
  target_sources(tokennorm_${name} INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${headers})
  set(tokennorm_components ${tokennorm_components} ${name} PARENT_SCOPE)
endfunction()

find_package(OpenMP QUIET COMPONENTS CXX)
find_package(Threads QUIET)
find_package(nlohmann_json 3.8 CONFIG QUIET)
set(MPI_CXX_SKIP_MPICXX ON) # the bindings for C++ of old, which MPI has given up
find_package(MPI 3 QUIET COMPONENTS CXX)
add_component(openmp OpenMP::OpenMP_CXX adapters/openmp.hpp)
add_component(thread_pool Threads::Threads adapters/thread_pool.hpp)
add_component(safetensors nlohmann_json::nlohmann_json
  checkpoint/config.hpp
  checkpoint/file_aside.hpp
  checkpoint/json_events.hpp
  checkpoint/safetensors.hpp
  checkpoint/safetensors_header.hpp
  checkpoint/shard_index.hpp)
add_component(mpi MPI::MPI_CXX
  adapters/mpi.hpp
  adapters/mpi_gradients.hpp
  adapters/mpi_messages.hpp
  adapters/mpi_pending.hpp
  adapters/mpi_sharded.hpp)
