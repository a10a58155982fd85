// SPDX-License-Identifier: MIT
// A scalar that no norm has, asked of a file.
// EXPECT: tokennorm: a tensor is read as float, double, Eigen::half or Eigen::bfloat16
#include <tokennorm/checkpoint/safetensors.hpp>

int main() {
  const auto file = tokennorm::Safetensors::open("model.safetensors");
#ifdef FIXED
  return file.matrix<float>("weight").size() == 0 ? 1 : 0;
#else
  return file.matrix<int>("weight").size() == 0 ? 1 : 0;
#endif
}
