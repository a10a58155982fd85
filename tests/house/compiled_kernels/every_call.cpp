// SPDX-License-Identifier: MIT
// What tokennorm::compiled_kernels has the kernels for, of a scalar: the calls of a norm on
// matrices of dynamic size in either storage order, and its placements.
#include <tokennorm/tokennorm.hpp>

#include <type_traits>
#include <vector>

namespace {

using namespace tokennorm;
using Scalar = SCALAR;
using Tokens = TokenMatrix<Scalar>;
using Columns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
using Accum = std::conditional_t<std::is_same_v<Scalar, double>, double, float>;

struct Identity {
  Tokens operator()(const Tokens& n) const { return n; }
  Tokens forward(const Tokens& n) { return n; }
  Tokens backward(const Tokens& dy) { return dy; }
};

template <class Norm, class X>
void call_norm(const Norm& norm, const X& x, X& y, X& sum) {
  TokenStatistics<Accum> stats;
  NormGradients<Accum> gradients;
  norm(x, y);
  norm.normalize(x, y, stats);
  norm.normalize_sum(x, x, y);
  norm.normalize_sum(x, x, sum, y);
  norm.normalize_sum(x, x, sum, y, stats);
  norm.backpropagate(x, stats, y, sum, gradients);
  norm.backpropagate_sum(x, stats, y, y, sum, gradients);
}

template <class Block>
void call_block(Block block, const Tokens& x, Tokens& y) {
  block(x, y);
  y = block.forward(x);
  y = block.backward(y);
}

template <class Norm>
void call_all(const Norm& norm, Tokens& x, Tokens& y, Tokens& z, Columns& a, Columns& b,
              Columns& c) {
  call_norm(norm, x, y, z);
  call_norm(norm, a, b, c);
  const Identity f;
  const PreLN pre_ln(norm, f, norm, f);
  const PostLN post_ln(f, norm, f, norm);
  const SandwichLN sandwich_ln(norm, f, norm, norm, f, norm);
  call_block(PreLNResidual(norm, f), x, y);
  call_block(PostLNResidual(f, norm), x, y);
  call_block(SandwichLNResidual(norm, f, norm), x, y);
  call_block(pre_ln, x, y);
  call_block(post_ln, x, y);
  call_block(sandwich_ln, x, y);
  call_block(Stack(norm, std::vector{pre_ln}, norm), x, y);
  call_block(Stack(norm, std::vector{post_ln}, norm), x, y);
  call_block(Stack(norm, std::vector{sandwich_ln}, norm), x, y);
}

}  // namespace

void call_every_norm(Tokens& x, Tokens& y, Tokens& z, Columns& a, Columns& b, Columns& c) {
  call_all(LayerNorm<Scalar>(4), x, y, z, a, b, c);
  call_all(RMSNorm<Scalar>(4), x, y, z, a, b, c);
  const LayerNorm<Scalar> layer_norm(4);
  const RMSNorm<Scalar> rms_norm(4);
  const Identity f;
  call_block(PreLN(layer_norm, f, rms_norm, f), x, y);
  call_block(PostLN(f, rms_norm, f, layer_norm), x, y);
  call_block(SandwichLN(layer_norm, f, rms_norm, layer_norm, f, rms_norm), x, y);
}
