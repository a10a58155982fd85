// SPDX-License-Identifier: MIT
// A forward and a backward of one connection, with a record of the caller's. The sublayers do
// nothing: what is timed is what stands around them. All have the floor of the Pre-LN one, so that
// they can be compared with it; where one must touch more memory, the comment says what.
#include "floors/floors.hpp"
#include "support/buffers.hpp"
#include "support/cell.hpp"
#include "support/suites.hpp"
#include <tokennorm/block/blocks.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace tokennorm::bench {
namespace {

using Tokens = TokenMatrix<float>;
using Norm = LayerNorm<float>;
using Affine = floors::Affine<float, true, true>;
using Scale = floors::Affine<float, true, false>;

/// Leaves what it is to write as it is: random, from the first time on.
struct Nothing {
  void forward(const Tokens&, Tokens& u) { fill_once(u); }
  void backward(const Tokens&, Tokens& dn) { fill_once(dn); }

 private:
  void fill_once(Tokens& tokens) {
    if (std::find(filled.begin(), filled.end(), tokens.data()) != filled.end()) return;
    fill_normal(tokens.data(), tokens.size());
    filled[next++ % filled.size()] = tokens.data();
  }
  std::array<const float*, 4> filled = {};  // what is saved changes places with what is new
  std::size_t next = 0;
};

Tokens random_tokens(Shape shape) {
  Tokens result(shape.tokens, shape.channels);
  fill_normal(result.data(), shape.size());
  return result;
}

template <class Make>
struct Training {
  using Scalar = float;

  explicit Training(Shape s)
      : shape(s),
        norm(with_random_parameters(Norm(s.channels))),
        connection(Make::connection(norm)),
        x(random_tokens(s)),
        dy(random_tokens(s)),
        y(random_tokens(s)),
        dx(random_tokens(s)),
        n(random_tokens(s)) {}

  void tokennorm() {
    connection.forward(x, y, record);
    connection.backward(dy, dx, record);
  }
  /// n = norm(x), y = x + u;  dx from x, dy and γ
  void floor() {
    const float* gamma = norm.scale().data();
    const Index c = shape.channels;
    floors::run(floors::Norm<float, Affine>{x.data(), n.data(), {gamma, norm.shift().data()}, c},
                shape.tokens);
    floors::run(floors::Add<float>{x.data(), n.data(), y.data(), c}, shape.tokens);
    floors::run(floors::Backward<float, Scale>{x.data(), dy.data(), dx.data(), {gamma, nullptr}, c},
                shape.tokens);
  }
  Index bytes() const { return 8 * shape.size() * Index{sizeof(float)}; }
  static Target target(Shape) { return {}; }

  Shape shape;
  Norm norm;
  decltype(Make::connection(norm)) connection;
  Tokens x, dy, y, dx, n;
  TrainingRecord<float> record;
};

struct Plain {
  static auto connection(const Norm& norm) { return PreLNResidual(norm, Nothing{}); }
};
struct WithNumber {  // writes du beside dh
  static auto connection(const Norm& norm) { return PreLNResidual(norm, Scaled(Nothing{}, 0.22)); }
};
struct WithLayerScale {  // the same, and reads u once more
  static auto connection(const Norm& norm) {
    return PreLNResidual(norm, LayerScale(Nothing{}, norm.channels(), 0.1));
  }
};
struct WithDropPath {  // as with a number
  static auto connection(const Norm& norm) {
    return PreLNResidual(norm, DropPath(Nothing{}, 0.1, 1, 7));
  }
};
struct Post {
  static auto connection(const Norm& norm) { return PostLNResidual(Nothing{}, norm); }
};
struct ResPost {
  static auto connection(const Norm& norm) { return ResPostLNResidual(Nothing{}, norm); }
};
struct Deep {
  static auto connection(const Norm& norm) { return DeepNormResidual(Nothing{}, norm, 1.5); }
};
struct Parallel {  // two updates, and two gradients of them
  static auto connection(const Norm& norm) { return ParallelLN(norm, Nothing{}, Nothing{}); }
};

}  // namespace

void add_training() {
  add_cells<Training<Plain>>("pre_ln_training", some_shapes);
  add_cells<Training<WithNumber>>("scaled_training", some_shapes);
  add_cells<Training<WithLayerScale>>("layer_scale_training", some_shapes);
  add_cells<Training<WithDropPath>>("drop_path_training", some_shapes);
  add_cells<Training<Post>>("post_ln_training", some_shapes);
  add_cells<Training<ResPost>>("res_post_ln_training", some_shapes);
  add_cells<Training<Deep>>("deep_norm_training", some_shapes);
  add_cells<Training<Parallel>>("parallel_ln_training", some_shapes);
}

}  // namespace tokennorm::bench
