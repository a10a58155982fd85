// SPDX-License-Identifier: MIT
/// The benchmarks of each source, in the order of the table.
#pragma once

namespace tokennorm::bench {

void add_inference();
void add_backward();
void add_residual_add();
void add_placements();
void add_training();

}  // namespace tokennorm::bench
