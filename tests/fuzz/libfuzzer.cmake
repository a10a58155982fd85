# Whether the compiler has libFuzzer, in TOKENNORM_HAS_LIBFUZZER: Clang with its run-time library.
include(CheckCXXSourceCompiles)
set(fuzzer_flags -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
list(JOIN fuzzer_flags " " CMAKE_REQUIRED_FLAGS)
check_cxx_source_compiles(
  "#include <cstddef>
   #include <cstdint>
   extern \"C\" int LLVMFuzzerTestOneInput(const std::uint8_t*, std::size_t) { return 0; }"
  TOKENNORM_HAS_LIBFUZZER)
unset(CMAKE_REQUIRED_FLAGS)
