// SPDX-License-Identifier: MIT
// The cases of the differential fuzzer, a source file for each kind of call.
#pragma once

#include "fuzzed_case.hpp"

namespace tokennorm::test {

/// Any case.
void run_case(FuzzedCase& fuzzed);

void run_norm_case(FuzzedCase& fuzzed);
void run_mixed_case(FuzzedCase& fuzzed);
void run_sum_case(FuzzedCase& fuzzed);
void run_heads_case(FuzzedCase& fuzzed);
void run_wrapper_case(FuzzedCase& fuzzed);
void run_block_case(FuzzedCase& fuzzed);

}  // namespace tokennorm::test
