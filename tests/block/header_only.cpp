// SPDX-License-Identifier: MIT
// Prints the bits of blocks of every placement, in inference and in training. Header-only, as the
// library is, and with the compiled kernels that the other tests link, they are the same.
#include "../support/digest.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/block/stack.hpp>

#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

/// Its own gradient is not asked for.
struct Halved {
  Tokens operator()(const Tokens& x) const { return 0.5f * x; }
  Tokens forward(const Tokens& x) { return (*this)(x); }
  Tokens backward(const Tokens& dy) { return 0.5f * dy; }
};

template <class Block>
void add_every_call(Digest& digest, Block block, const Tokens& x, const Tokens& dy) {
  Tokens y;
  block(x, y);
  digest.add(y, block.forward(x));
  digest.add(block.backward(dy));
  block.visit_parameters(
      [&](const std::string&, auto&, const auto& gradient) { digest.add(gradient); });
}

template <class First, class Second>
void print(const char* level, const char* what) {
  Digest digest;
  for (const Shape shape : {Shape{1, 33}, Shape{9, 5}, Shape{70, 19}, Shape{6, 768}}) {
    const Tokens x = random_normal<Tokens>(shape, Seed{1}, 0.5, 2);
    const Tokens dy = random_normal<Tokens>(shape, Seed{2});
    First first(shape.channels);
    first.scale() = random_vector<float>(shape.channels, Seed{3}, 1);
    const Second second(shape.channels);
    const Halved f;
    const PreLN pre_ln(first, f, second, f);
    add_every_call(digest, Stack(second, std::vector{pre_ln, pre_ln}, first), x, dy);
    add_every_call(digest, PostLN(f, first, f, second), x, dy);
    add_every_call(digest, SandwichLN(first, f, second, first, f, second), x, dy);
  }
  digest.print(level, what);
}

}  // namespace
}  // namespace tokennorm::test

int main() {
  using namespace tokennorm;
  test::print_every_level([](const char* level) {
    test::print<LayerNorm<float>, RMSNorm<float>>(level, "LayerNorm and RMSNorm");
  });
}
