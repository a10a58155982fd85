// SPDX-License-Identifier: MIT
// What a unit of a program that uses Eigen costs anyway: bench/compile_time.sh
#include <Eigen/Core>
