// SPDX-License-Identifier: MIT
// Prints the bits of every call of a norm. Header-only, as the library is, and with the compiled
// kernels that the other tests link, they are the same.
#include "../support/digest.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/norm/layer_norm.hpp>
#include <tokennorm/norm/rms_norm.hpp>

namespace tokennorm::test {
namespace {

template <class Matrix, class Norm>
void add_every_call(Digest& digest, Norm norm, Shape shape) {
  using Accum = AccumOf<typename Matrix::Scalar>;
  const Matrix x = random_normal<Matrix>(shape, Seed{1}, 0.5, 2);
  const Matrix update = random_normal<Matrix>(shape, Seed{2});
  Matrix y, sum, dx;
  TokenStatistics<Accum> stats;
  NormGradients<Accum> g;
  norm(x, y);
  digest.add(y);
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, update, dx, g);
  digest.add(y, stats.mean, stats.rstd, dx, g.scale, g.shift);
  norm.normalize_sum(x, update, y);
  digest.add(y);
  norm.normalize_sum(x, update, sum, y);
  digest.add(sum, y);
  norm.normalize_sum(x, update, sum, y, stats);
  norm.backpropagate_sum(sum, stats, update, x, dx, g);
  digest.add(sum, y, stats.rstd, dx, g.scale, g.shift);
  digest.add(norm.forward(x));
  digest.add(norm.backward(update));
}

template <class Norm>
void print(const char* level, const char* what) {
  using Scalar = typename Norm::ParamScalar;
  Digest digest;
  for (const Shape shape : {Shape{1, 33}, Shape{9, 5}, Shape{70, 19}, Shape{6, 768}}) {
    Norm norm(shape.channels);
    norm.scale() = random_vector<Scalar>(shape.channels, Seed{3}, 1);
    add_every_call<Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        digest, norm, shape);
    add_every_call<Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>>(digest, norm, shape);
  }
  digest.print(level, what);
}

}  // namespace
}  // namespace tokennorm::test

int main() {
  using namespace tokennorm;
  test::print_every_level([](const char* level) {
    test::print<LayerNorm<float>>(level, "LayerNorm of float");
    test::print<RMSNorm<Eigen::bfloat16>>(level, "RMSNorm of bfloat16");
  });
}
