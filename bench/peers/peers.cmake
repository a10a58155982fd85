# The peers as libraries, for the benchmarks and for the accuracy table of the tests.

option(TOKENNORM_BENCH_PEERS "Measure oneDNN and libtorch as well, where they are found" OFF)

# add_peer(NAME SOURCE [SHOWN]): a shared library that shows nothing but its Peer, whose name in the
# table is SHOWN or else NAME: see peer.hpp.
function(add_peer name source)
  set(shown ${ARGN} ${name})
  list(GET shown 0 shown)
  add_library(peer_${name} SHARED "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${source}")
  target_include_directories(peer_${name} PRIVATE "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/..")
  target_link_libraries(peer_${name} PRIVATE tokennorm_warnings)
  set_target_properties(peer_${name} PROPERTIES
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_definitions(peer_${name} PRIVATE
    TOKENNORM_BENCH_PEER=tokennorm_bench_${name} TOKENNORM_BENCH_PEER_NAME="${shown}")
endfunction()

# Searched for by hand: Debian's package configurations want development files of their own
# dependencies that the libraries do not need.
function(add_foreign_peer name header libraries packages)
  find_path(TOKENNORM_BENCH_${name}_INCLUDE ${header})
  foreach(library ${libraries})
    find_library(TOKENNORM_BENCH_${name}_${library} ${library})
    list(APPEND found "${TOKENNORM_BENCH_${name}_${library}}")
  endforeach()
  if("${TOKENNORM_BENCH_${name}_INCLUDE};${found}" MATCHES NOTFOUND)
    message(STATUS "${name} is not among the peers: not found (Debian: ${packages})")
    return()
  endif()
  if(name STREQUAL "onednn") # whose third version has another interface
    file(STRINGS "${TOKENNORM_BENCH_onednn_INCLUDE}/oneapi/dnnl/dnnl_version.h" version
      REGEX "DNNL_VERSION_MAJOR 2")
    if(NOT version)
      message(STATUS "oneDNN is not among the peers: they are written for its version 2")
      return()
    endif()
  endif()
  add_peer(${name} ${name}.cpp)
  target_compile_features(peer_${name} PRIVATE cxx_std_17) # libtorch 1.13 is no C++20 to Clang
  target_include_directories(peer_${name} SYSTEM PRIVATE "${TOKENNORM_BENCH_${name}_INCLUDE}")
  target_link_libraries(peer_${name} PRIVATE ${found})
  string(TOUPPER ${name} upper)
  target_compile_definitions(peer_${name} INTERFACE TOKENNORM_BENCH_${upper})
endfunction()

# Those that are wanted and found; TOKENNORM_BENCH_ONEDNN, TOKENNORM_BENCH_LIBTORCH tell the target.
function(link_foreign_peers target)
  if(TOKENNORM_BENCH_PEERS AND NOT TARGET peer_onednn)
    add_foreign_peer(onednn oneapi/dnnl/dnnl_version.h dnnl libdnnl-dev)
  endif()
  if(TOKENNORM_BENCH_PEERS AND NOT TARGET peer_libtorch)
    add_foreign_peer(libtorch ATen/ATen.h "torch_cpu;c10" libtorch-dev)
  endif()
  foreach(peer IN ITEMS peer_onednn peer_libtorch)
    if(TARGET ${peer})
      target_link_libraries(${target} PRIVATE ${peer})
    endif()
  endforeach()
endfunction()
