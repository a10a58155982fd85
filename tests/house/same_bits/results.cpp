// SPDX-License-Identifier: MIT
// Prints what the bits of results come to, at each ISA level. Every build prints the same.
#include "../../support/digest.hpp"
#include <tokennorm/tokennorm.hpp>

#include <random>
#include <type_traits>

namespace {

using namespace tokennorm;
using test::Digest;

template <class T>
TokenMatrix<T> random_tokens(Index tokens, Index channels, unsigned seed) {
  std::mt19937 engine(seed);
  TokenMatrix<T> x(tokens, channels);
  for (Index i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<T>(static_cast<float>(engine() >> 8) * 0x1p-23f - 0.75f);
  }
  return x;
}

template <class Norm, class T>
void add_results(Digest& digest) {
  using Accum = std::conditional_t<std::is_same_v<T, double>, double, float>;
  for (const Index channels : {1, 3, 17, 33, 67, 129, 1023}) {
    Norm norm(channels);
    norm.scale() = random_tokens<typename Norm::ParamScalar>(1, channels, 1).row(0).transpose();
    auto x = random_tokens<T>(7, channels, 2);
    x.row(5) = x.row(5) * static_cast<T>(1024);
    TokenMatrix<T> y, dx;
    TokenStatistics<Accum> stats;
    NormGradients<Accum> gradients;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, random_tokens<T>(7, channels, 3), dx, gradients);
    digest.add(y);
    digest.add(dx);
    digest.add(stats.rstd);
    digest.add(gradients.scale);
  }
}

template <class Norm, class T>
void print(const char* level, const char* what) {
  Digest digest;
  add_results<Norm, T>(digest);
  digest.print(level, what);
}

}  // namespace

int main() {
  test::print_every_level([](const char* level) {
    print<LayerNorm<float>, float>(level, "LayerNorm of float");
    print<LayerNorm<float>, Eigen::half>(level, "LayerNorm of half");
    print<RMSNorm<float>, Eigen::bfloat16>(level, "RMSNorm of bfloat16");
    print<RMSNorm<double>, double>(level, "RMSNorm of double");
  });
}
