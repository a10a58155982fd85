// SPDX-License-Identifier: MIT
#include "cases.hpp"

#include <iterator>

namespace tokennorm::test {

void run_case(FuzzedCase& fuzzed) {
  using Run = void (*)(FuzzedCase&);
  constexpr Run runs[] = {run_norm_case,  run_mixed_case,   run_sum_case,
                          run_heads_case, run_wrapper_case, run_block_case};
  runs[fuzzed.below(std::size(runs))](fuzzed);
}

}  // namespace tokennorm::test
