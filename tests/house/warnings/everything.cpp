// SPDX-License-Identifier: MIT
// A user's unit that makes the library's templates real. It is compiled and not run.
#include <tokennorm/tokennorm.hpp>

#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace tokennorm;

/// x and y may differ in scalar type and storage order from each other and from the parameters.
template <class Norm, class X, class Y>
void use_norm(Norm norm, const X& x, Y& y) {
  using Accum = std::conditional_t<std::is_same_v<typename X::Scalar, double>, double, float>;
  norm(x, y);
  y = norm(y);
  norm(y, y);
  norm(x.row(0), y.row(0));

  TokenStatistics<Accum> statistics;
  NormGradients<Accum> gradients;
  X sum = x, dx = x;
  norm.normalize(x, y, statistics);
  norm.backpropagate(x, statistics, y, dx, gradients);
  norm.normalize_sum(x, x, sum, y);
  norm.normalize_sum(x, x, sum, y, statistics);
  norm.backpropagate_sum(sum, statistics, y, x, dx, gradients);

  const Index channels = norm.channels();
  norm(heads(x, channels), heads(y, channels));
  norm.normalize(heads(x, channels), heads(y.topRows(2), channels), statistics);
  norm.backpropagate(heads(x, channels), statistics, heads(y, channels), heads(dx, channels),
                     gradients);
}

/// A norm of some of the channels of its tokens.
template <class Norm, class X>
void use_part(const Norm& norm, const X& x) {
  using Accum = std::conditional_t<std::is_same_v<typename X::Scalar, double>, double, float>;
  X y = x, dx = x;
  PartialStatistics<Accum> statistics, others;
  PartialGradientSums<Accum> sums, other_sums;
  NormGradients<Accum> gradients;
  norm.partial_statistics(x, statistics);
  norm.partial_statistics_sum(x, x, y, others);
  merge(statistics, others);
  norm.apply(x, statistics, y);
  norm.partial_gradient_sums(x, statistics, y, sums);
  merge(sums, other_sums);
  norm.backpropagate(x, statistics, y, sums, dx, gradients);
  norm.backpropagate_sum(x, statistics, y, sums, x, dx, gradients);
  LayerNorm<Accum> of_gradients(3);
  ReproducibleSum<Accum> sum;
  sum.add(of_gradients);
  sum.move_to(of_gradients);
}

/// A module: a norm, a residual connection, a block or a stack.
template <class Module, class Tokens>
void use_module(Module module, const Tokens& x) {
  const Tokens y = module(x);
  module.zero_gradients();
  const Tokens trained = module.forward(y);
  const Tokens dx = module.backward(trained);
  module.visit_parameters(
      [](const std::string&, auto& value, auto& gradient) { value -= gradient; });
}

template <class Scalar>
struct Sublayer {
  using Tokens = TokenMatrix<Scalar>;
  Tokens operator()(const Tokens& x) const { return x; }
  Tokens forward(const Tokens& x) { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
};

template <class Scalar, class Norm>
void use_blocks(const Norm& norm) {
  const TokenMatrix<Scalar> x(2, 3);
  TokenMatrix<Scalar> y;
  const Sublayer<Scalar> f;
  use_module(norm, x);
  use_module(PreLNResidual(norm, f), x);
  use_module(PostLNResidual(f, norm), x);
  use_module(SandwichLNResidual(norm, f, norm), x);
  use_module(ResPostLNResidual(f, norm), x);
  use_module(DeepNormResidual(f, norm, 2), x);
  use_module(PostLN(f, norm, f, norm), x);
  use_module(SandwichLN(norm, f, norm, norm, f, norm), x);
  use_module(ResPostLN(f, norm, f, norm), x);
  use_module(DeepNorm(f, norm, f, norm, 2), x);

  const PreLN block(norm, f, norm, f);
  use_module(block, x);
  use_module(Stack(NoNorm{}, std::vector{block, block}, norm), x);
  Workspace<Scalar> workspace;
  block(x, y, workspace);
}

struct FoldableSublayer {
  using Tokens = TokenMatrix<float>;
  Tokens weight = Tokens(3, 3);
  Tokens operator()(const Tokens& x) const { return x * weight; }
  template <class Visitor>
  void visit_readers(Visitor&& visitor) {
    visitor(InOut{weight});
  }
  template <class Visitor>
  void visit_writers(Visitor&& visitor) {
    visitor(InOut{weight});
  }
};

/// A file of tensors that is never opened.
struct File {
  std::vector<std::string> names() const { return {}; }
  bool contains(const std::string&) const { return false; }
  std::vector<Index> shape(const std::string&) const { return {}; }
  template <class S>
  TokenMatrix<S> matrix(const std::string&) const {
    return {};
  }
  template <class Vector>
  void add(const std::string&, const Vector&) {}
};

template <class Norm>
void use_checkpoint(Norm norm, File& file) {
  load_norm(norm, file, "norm");
  save_norm(norm, file, "norm", Naming::weight_bias);
  const FoldableSublayer f;
  Stack stack(NoNorm{}, std::vector(2, PreLN(norm, f, norm, f)), norm);
  load_norms(stack, file, detect_family(file.names()));
  save_norms(stack, file, families::gpt2);
  TokenMatrix<float> embedding(5, 3), unembedding = embedding;
  Eigen::VectorXf bias(5);
  fold_norms(stack.blocks().front());
  fold_norms(stack, OutIn{unembedding, bias});
  if constexpr (Norm::centred) {
    center_reader(norm, InOut{embedding.transpose()});
    const auto centred = center_writers(stack, embedding);
  }
}

}  // namespace

void use_everything();
void use_everything() {
  const TokenMatrix<float> rows(2, 3);
  const Eigen::MatrixXd columns(2, 3);
  TokenMatrix<Eigen::bfloat16> brain(2, 3);
  TokenMatrix<Eigen::half> half(2, 3);
  Eigen::MatrixXd y;
  use_norm(LayerNorm<float>(3), rows, brain);
  use_norm(RMSNorm<Eigen::bfloat16, 3>(3, {.statistics_channels = 2}), brain, half);
  use_norm(LayerNorm<double>(3), columns, y);
  use_norm(make_norm<float>(families::llama, 3), rows, brain);
  use_part(LayerNorm<float>(3), brain);
  use_part(RMSNorm<double>(3), columns);
  use_module(AnyNorm<float>(NormKind::layer_norm, 3, {.epsilon = 1e-12}), rows);
  use_blocks<float>(LayerNorm<float>(3));
  File file;
  use_checkpoint(LayerNorm<float>(3), file);
  use_checkpoint(RMSNorm<float>(3), file);
}
