# tokennorm chooses its instructions when it runs and needs no flags. Eigen's matrix products are
# fixed to what the compiler is told: with this CPU's AVX2 they are twice as fast, and with AVX-512
# four times. The level is named, rather than -march=native, so that a compiler cache that moves to
# another CPU does not mix them up.
option(TOKENNORM_EXAMPLES_FOR_THIS_CPU
  "Build train_gpt and run_llama for this machine's vector units" ON)
if(TOKENNORM_EXAMPLES_FOR_THIS_CPU AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64"
   AND NOT CMAKE_CROSSCOMPILING AND NOT MSVC)
  include(CheckCXXSourceRuns)
  function(check_cpu_supports result)
    list(TRANSFORM ARGN PREPEND "__builtin_cpu_supports(\"")
    list(TRANSFORM ARGN APPEND "\")")
    list(JOIN ARGN " && " all_of_them)
    check_cxx_source_runs("int main() { return ${all_of_them} ? 0 : 1; }" ${result})
  endfunction()
  check_cpu_supports(TOKENNORM_CPU_IS_X86_64_V3 avx2 fma bmi2)
  check_cpu_supports(TOKENNORM_CPU_IS_X86_64_V4 avx512f avx512bw avx512cd avx512dq avx512vl)
endif()

function(build_for_this_cpu target)
  if(NOT TOKENNORM_EXAMPLES_FOR_THIS_CPU)
    return()
  endif()
  if(TOKENNORM_CPU_IS_X86_64_V3 AND TOKENNORM_CPU_IS_X86_64_V4)
    target_compile_options(${target} PRIVATE -march=x86-64-v4)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # GCC 12 takes its own AVX-512 intrinsics for uninitialized variables (GCC bug 105593).
      target_compile_options(${target} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
  elseif(TOKENNORM_CPU_IS_X86_64_V3)
    target_compile_options(${target} PRIVATE -march=x86-64-v3)
  endif()
endfunction()
