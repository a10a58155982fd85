// SPDX-License-Identifier: MIT
#include "compiled_block.hpp"

namespace tokennorm::test {

template <class S>
std::unique_ptr<TestBlock<S>> make_residual(const std::string& placement, Index c) {
  if (placement == "PreLNResidual")
    return compiled<S>(PreLNResidual(layer_norm<S>(c, {1}), CausalMean<S>(c, {2})));
  if (placement == "PostLNResidual")
    return compiled<S>(PostLNResidual(CausalMean<S>(c, {3}), rms_norm<S>(c, {4})));
  if (placement == "SandwichLNResidual")
    return compiled<S>(
        SandwichLNResidual(layer_norm<S>(c, {5}), CausalMean<S>(c, {6}), offset_norm<S>(c, {7})));
  return nullptr;
}

template std::unique_ptr<TestBlock<float>> make_residual(const std::string&, Index);
template std::unique_ptr<TestBlock<double>> make_residual(const std::string&, Index);

}  // namespace tokennorm::test
