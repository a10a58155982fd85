// SPDX-License-Identifier: MIT
/// A stack of tokennorm's, whichever placement it has, behind one type. What differs between the
/// networks of the study, and all that does, is in network.cpp: where the norms stand.
///
/// Shapes     x, y, dy, dx, h (T, C)
#pragma once

#include "placements.hpp"
#include "sublayers.hpp"

#include <functional>
#include <memory>
#include <vector>

namespace study {

class Network {
 public:
  Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  virtual ~Network() = default;

  virtual Tokens operator()(const Tokens& x, const gpt::Sequences& sequences) const = 0;
  /// The residual stream h: before the first block, and after each.
  virtual std::vector<Tokens> stream(const Tokens& x, const gpt::Sequences& sequences) const = 0;
  /// What the feed-forward layer of a block makes of its input.
  virtual Tokens feed_forward(Index block, const Tokens& input,
                              const gpt::Sequences& sequences) const = 0;

  virtual Tokens forward(const Tokens& x, Batch& batch) = 0;
  virtual Tokens backward(const Tokens& dy, Batch& batch) = 0;
  virtual void visit_parameters(const Visitor& visitor) = 0;
  virtual void zero_gradients() = 0;
};

/// `make_sublayers(gain)` makes those of the next block.
std::unique_ptr<Network> make_network(Placement placement, Index layers, Index channels,
                                      const std::function<Sublayers(double gain)>& make_sublayers);

}  // namespace study
