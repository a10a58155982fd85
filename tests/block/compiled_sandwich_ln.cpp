// SPDX-License-Identifier: MIT
#include "compiled_block.hpp"

#include <vector>

namespace tokennorm::test {
namespace {

template <class S>
auto sandwich_ln(Index c, std::uint64_t seed) {
  return SandwichLN(rms_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1}),
                    offset_norm<S>(c, {seed + 2}), layer_norm<S>(c, {seed + 3}),
                    Linear<S>(c, {seed + 4}), layer_norm<S>(c, {seed + 5}));
}

}  // namespace

template <class S>
std::unique_ptr<TestBlock<S>> make_sandwich_ln(const std::string& placement, Index c) {
  if (placement == "SandwichLN") return compiled<S>(sandwich_ln<S>(c, 210));
  if (placement == "StackOfSandwichLN")
    return compiled<S>(Stack(NoNorm{}, std::vector{sandwich_ln<S>(c, 220), sandwich_ln<S>(c, 230)},
                             rms_norm<S>(c, {241})));
  return nullptr;
}

template std::unique_ptr<TestBlock<float>> make_sandwich_ln(const std::string&, Index);
template std::unique_ptr<TestBlock<double>> make_sandwich_ln(const std::string&, Index);

}  // namespace tokennorm::test
