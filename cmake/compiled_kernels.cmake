# tokennorm::compiled_kernels: the kernels as a static library of whatever project links it, built
# once, and only where something links it. Included by tokennorm's own build and by the installed
# package, which has no library in it: the source of the kernels are the headers.
#
#   set(TOKENNORM_COMPILED_SCALARS float bfloat16 half double)   # before; float where it is not set
#   set(TOKENNORM_COMPILED_MAX_ISA 1)                            # for units with -DTOKENNORM_MAX_ISA=1
if(TARGET tokennorm::compiled_kernels OR NOT CMAKE_CXX_COMPILER_LOADED)
  return()
endif()

add_library(tokennorm_compiled_kernels STATIC EXCLUDE_FROM_ALL)
add_library(tokennorm::compiled_kernels ALIAS tokennorm_compiled_kernels)
target_link_libraries(tokennorm_compiled_kernels PUBLIC tokennorm::tokennorm)

# One unit for each list of kernels in tokennorm/kernels/compiled.hpp.
function(tokennorm_add_compiled_unit name kernels)
  set(unit "${CMAKE_CURRENT_BINARY_DIR}/tokennorm_compiled_kernels/${name}.cpp")
  file(CONFIGURE OUTPUT "${unit}" CONTENT
"#define TOKENNORM_DEFINE_KERNELS
#define TOKENNORM_DEFINE_ONLY ${kernels}
#include <tokennorm/kernels/compiled.hpp>
")
  target_sources(tokennorm_compiled_kernels PRIVATE "${unit}")
endfunction()

function(tokennorm_add_compiled_scalars)
  set(small)
  foreach(scalar IN LISTS ARGN)
    set(type ${scalar})
    set(arithmetic float)
    if(scalar STREQUAL "double")
      set(arithmetic double)
    elseif(scalar STREQUAL "bfloat16" OR scalar STREQUAL "half")
      set(type Eigen::${scalar})
    elseif(NOT scalar STREQUAL "float")
      message(FATAL_ERROR "tokennorm: TOKENNORM_COMPILED_SCALARS has \"${scalar}\"; "
        "expected some of float, bfloat16, half, double")
    endif()
    tokennorm_add_compiled_unit(layer_norm_forward_${scalar}
      "TOKENNORM_FORWARD_KERNELS(LayerNorm, ${type})")
    tokennorm_add_compiled_unit(layer_norm_backward_${scalar}
      "TOKENNORM_BACKWARD_KERNELS(LayerNorm, ${type})")
    tokennorm_add_compiled_unit(rms_norm_forward_${scalar}
      "TOKENNORM_FORWARD_KERNELS(RMSNorm, ${type})")
    tokennorm_add_compiled_unit(rms_norm_backward_${scalar}
      "TOKENNORM_BACKWARD_KERNELS(RMSNorm, ${type})")
    list(APPEND small "TOKENNORM_SUM_KERNELS(${type})" "TOKENNORM_GRADIENT_KERNELS(${arithmetic})")
    if(arithmetic STREQUAL "float")
      list(APPEND small "TOKENNORM_PRECISE_KERNELS(${type})")
    endif()
    string(TOUPPER ${scalar} flag)
    target_compile_definitions(tokennorm_compiled_kernels INTERFACE TOKENNORM_COMPILED_${flag})
  endforeach()
  list(REMOVE_DUPLICATES small)
  list(JOIN small " " small)
  tokennorm_add_compiled_unit(small "${small}")
endfunction()

if(DEFINED TOKENNORM_COMPILED_SCALARS)
  tokennorm_add_compiled_scalars(${TOKENNORM_COMPILED_SCALARS})
else()
  tokennorm_add_compiled_scalars(float)
endif()

# Optimized whatever the build type, and plain whatever the flags of the project: the kernels choose
# the instruction set when they run. What else the project has, a sanitizer for one, they have too;
# but of debug information only the lines, as more takes half as long again as to compile them.
target_compile_options(tokennorm_compiled_kernels PRIVATE
  -O2 -fno-fast-math -UTOKENNORM_MAX_ISA $<$<CONFIG:Debug,RelWithDebInfo>:-g1>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  target_compile_options(tokennorm_compiled_kernels PRIVATE -march=x86-64 -mno-avx)
endif()
if(DEFINED TOKENNORM_COMPILED_MAX_ISA)
  target_compile_definitions(tokennorm_compiled_kernels
    PUBLIC TOKENNORM_COMPILED_MAX_ISA=${TOKENNORM_COMPILED_MAX_ISA})
  target_compile_options(tokennorm_compiled_kernels
    PRIVATE -DTOKENNORM_MAX_ISA=${TOKENNORM_COMPILED_MAX_ISA})
endif()
set_target_properties(tokennorm_compiled_kernels PROPERTIES
  POSITION_INDEPENDENT_CODE ON
  UNITY_BUILD OFF) # each has its own definitions
