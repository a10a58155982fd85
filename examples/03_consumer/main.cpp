// SPDX-License-Identifier: MIT
// Another library's memory, normalized where it stands: a user's buffer of floats, no Eigen matrix
// in sight.
#include <tokennorm/tokennorm.hpp>

#include <cstdio>
#include <vector>

int main() {
  constexpr int channels = 4;
  std::vector<float> activations = {1, 2, 3, 4, 1000, 2000, 3000, 4000};

  const tokennorm::RMSNorm<float> norm(channels, {.epsilon = 1e-5});
  norm(tokennorm::tokens(activations, channels), tokennorm::tokens(activations, channels));

  std::printf("tokennorm %d.%d.%d, two tokens of %d channels, RMS 1 each:\n",
              TOKENNORM_VERSION_MAJOR, TOKENNORM_VERSION_MINOR, TOKENNORM_VERSION_PATCH, channels);
  for (std::size_t i = 0; i < activations.size(); ++i)
    std::printf("%8.4f%s", static_cast<double>(activations[i]), (i + 1) % channels ? "" : "\n");
}
