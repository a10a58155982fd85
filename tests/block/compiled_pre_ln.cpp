// SPDX-License-Identifier: MIT
#include "compiled_block.hpp"

#include <vector>

namespace tokennorm::test {
namespace {

template <class S>
auto pre_ln(Index c, std::uint64_t seed) {
  return PreLN(layer_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1}), rms_norm<S>(c, {seed + 2}),
               Linear<S>(c, {seed + 3}));
}

}  // namespace

template <class S>
std::unique_ptr<TestBlock<S>> make_pre_ln(const std::string& placement, Index c) {
  if (placement == "PreLN") return compiled<S>(pre_ln<S>(c, 10));
  const std::vector blocks = {pre_ln<S>(c, 20), pre_ln<S>(c, 30), pre_ln<S>(c, 40)};
  if (placement == "StackOfPreLN")
    return compiled<S>(Stack(layer_norm<S>(c, {51}), blocks, rms_norm<S>(c, {52})));
  if (placement == "StackOfPreLNWithoutNorms")
    return compiled<S>(Stack(NoNorm{}, blocks, NoNorm{}));
  return nullptr;
}

template std::unique_ptr<TestBlock<float>> make_pre_ln(const std::string&, Index);
template std::unique_ptr<TestBlock<double>> make_pre_ln(const std::string&, Index);

}  // namespace tokennorm::test
