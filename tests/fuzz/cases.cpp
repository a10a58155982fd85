// SPDX-License-Identifier: MIT
#include "cases.hpp"

namespace tokennorm::test {

void run_case(FuzzedCase& fuzzed) { run_norm_case(fuzzed); }

}  // namespace tokennorm::test
