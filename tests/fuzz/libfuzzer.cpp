// SPDX-License-Identifier: MIT
// The differential fuzzer by libFuzzer: any bytes are the choices of a case.
//
//   fuzz_norms -max_total_time=60 CORPUS
#include "cases.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tokennorm::test::FuzzedCase fuzzed({data, size}, "that libFuzzer has written to a file");
  tokennorm::test::run_case(fuzzed);
  return 0;
}
