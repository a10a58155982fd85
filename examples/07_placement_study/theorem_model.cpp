// SPDX-License-Identifier: MIT
// See theorem_model.hpp.
#include "theorem_model.hpp"

#include "cross_entropy.hpp"

#include <array>

namespace study {

TheoremModel::TheoremModel(Placement placement, Index layers, Index channels, std::mt19937_64& rng)
    : network_(
          make_network(placement, layers, channels,
                       [&](double gain) { return make_theorem_sublayers(channels, gain, rng); })),
      head_(channels, classes, rng, 1, /*bias=*/false) {}

void TheoremModel::add_gradients(const Tokens& x, int target) {
  batch_.sequences = {1, x.rows()};
  const Tokens y = network_->forward(x, batch_);
  const Tokens last = y.bottomRows(1);
  Tokens logits = head_(last);
  gpt::cross_entropy_into_gradient(logits, std::array{target});
  Tokens dy = Tokens::Zero(y.rows(), y.cols());
  dy.bottomRows(1) = head_.backward(last, logits);
  network_->backward(dy, batch_);
}

std::vector<double> TheoremModel::mean_squares_of_sums() const {
  std::vector<double> squares;
  for (std::size_t block = 0; block < batch_.blocks.size(); ++block) {
    const Tokens& h = batch_.blocks[block].feed_forward.x;
    const Tokens sum = h + network_->feed_forward(static_cast<Index>(block), h, batch_.sequences);
    squares.push_back(mean_square(sum));
  }
  return squares;
}

}  // namespace study
