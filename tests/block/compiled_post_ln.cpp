// SPDX-License-Identifier: MIT
#include "compiled_block.hpp"

#include <vector>

namespace tokennorm::test {
namespace {

template <class S>
auto post_ln(Index c, std::uint64_t seed) {
  return PostLN(CausalMean<S>(c, {seed}), layer_norm<S>(c, {seed + 1}), Linear<S>(c, {seed + 2}),
                rms_norm<S>(c, {seed + 3}));
}

}  // namespace

template <class S>
std::unique_ptr<TestBlock<S>> make_post_ln(const std::string& placement, Index c) {
  if (placement == "PostLN") return compiled<S>(post_ln<S>(c, 110));
  if (placement == "StackOfPostLN")
    return compiled<S>(Stack(layer_norm<S>(c, {121}),
                             std::vector{post_ln<S>(c, 130), post_ln<S>(c, 140)}, NoNorm{}));
  return nullptr;
}

template std::unique_ptr<TestBlock<float>> make_post_ln(const std::string&, Index);
template std::unique_ptr<TestBlock<double>> make_post_ln(const std::string&, Index);

}  // namespace tokennorm::test
