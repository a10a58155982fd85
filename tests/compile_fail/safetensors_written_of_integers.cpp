// SPDX-License-Identifier: MIT
// A scalar that no norm has, given to a writer.
// EXPECT: SafetensorsWriter::add: expected a matrix of float, double, Eigen::half or
// Eigen::bfloat16
// LINES: 50
#include <tokennorm/checkpoint/safetensors.hpp>

int main() {
  tokennorm::SafetensorsWriter writer;
  const Eigen::Vector3i counts(1, 2, 3);
#ifdef FIXED
  writer.add("counts", counts.cast<double>());
#else
  writer.add("counts", counts);
#endif
}
