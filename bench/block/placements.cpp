// SPDX-License-Identifier: MIT
// The residual step of each placement, and whole blocks; a Pre-LN one also as folding and centring
// leave it. The sublayers do nothing: what is timed is what stands around them.
#include "floors/floors.hpp"
#include "support/buffers.hpp"
#include "support/cell.hpp"
#include "support/suites.hpp"
#include <tokennorm/block/blocks.hpp>
#include <tokennorm/norm/rms_norm.hpp>

namespace tokennorm::bench {
namespace {

using Norm = LayerNorm<float>;
using Affine = floors::Affine<float, true, true>;
using NoAffine = floors::Affine<float, false, false>;

/// Leaves the update as it is: random, from the workspace.
struct Nothing {
  void operator()(const TokenMatrix<float>&, TokenMatrix<float>&) const {}
};

TokenMatrix<float> random_matrix(Shape shape) {
  TokenMatrix<float> result(shape.tokens, shape.channels);
  fill_normal(result.data(), shape.size());
  return result;
}

/// Sublayers take matrices, so the operands are such, aligned as Eigen does it.
struct Placement {
  using Scalar = float;

  explicit Placement(Shape s)
      : shape(s),
        norm(with_random_parameters(Norm(s.channels))),
        x(random_matrix(s)),
        y(random_matrix(s)),
        workspace{random_matrix(s), random_matrix(s), random_matrix(s), random_matrix(s),
                  random_matrix(s)} {}

  // Floors of the steps, and what each moves: `steps` counts the steps, `operands` the matrices.
  void norm_floor() { norm_floor(affine()); }
  template <class A>
  void norm_floor(const A& affine) {
    run(floors::Norm<float, A>{x.data(), normed(), affine, channels()});
  }
  void add_norm_floor(const float* residual) { add_norm_floor(residual, affine()); }
  template <class A>
  void add_norm_floor(const float* residual, const A& affine) {
    run(floors::AddNorm<float, A>{residual, update(), stream(), normed(), affine, channels()});
  }
  void norm_of_sum_floor(const float* residual, float* to) {
    run(floors::NormOfSum<float, Affine>{residual, update(), to, affine(), channels()});
  }
  void add_normed_floor(const float* residual) {
    run(floors::AddNormed<float, Affine>{residual, update(), y.data(), affine(), channels()});
  }
  void add_normed_norm_floor() {
    run(floors::AddNormedNorm<float, Affine>{
        {x.data(), update(), stream(), affine(), channels()}, normed(), affine()});
  }
  void add_floor() { run(floors::Add<float>{stream(), update(), y.data(), channels()}); }

  void run(const auto& rows) { floors::run(rows, shape.tokens); }
  Affine affine() const { return {norm.scale().data(), norm.shift().data()}; }
  Index channels() const { return shape.channels; }
  float* stream() { return workspace.stream.data(); }
  float* normed() { return workspace.normed.data(); }
  const float* update() const { return workspace.update.data(); }

  Shape shape;
  Norm norm;
  TokenMatrix<float> x, y;
  Workspace<float> workspace;
};

/// With so many steps, and so many matrices that they read and write.
template <int steps, int operands>
struct Steps : Placement {
  using Placement::Placement;
  Index bytes() const { return bytes_of(shape); }
  static Index bytes_of(Shape s) { return operands * s.size() * Index{sizeof(float)}; }
  static Target target(Shape s) { return forward_target<float>(s, bytes_of(s), steps); }
};

/// h ← h + u, n = norm(h)
struct PreLNStep : Steps<1, 4> {
  using Steps::Steps;
  void tokennorm() {
    norm.normalize_sum(workspace.stream, workspace.update, workspace.stream, workspace.normed);
  }
  void floor() { add_norm_floor(stream()); }
};

/// h ← norm(h + u)
struct PostLNStep : Steps<1, 3> {
  using Steps::Steps;
  void tokennorm() { connection(x, y, workspace); }
  void floor() { norm_of_sum_floor(x.data(), y.data()); }

  PostLNResidual<Nothing, Norm> connection{Nothing{}, norm};
};

/// n = norm(x), then h ← x + norm(u)
struct SandwichLNSteps : Steps<2, 5> {
  using Steps::Steps;
  void tokennorm() { connection(x, y, workspace); }
  void floor() {
    norm_floor();
    add_normed_floor(x.data());
  }

  SandwichLNResidual<Norm, Nothing, Norm> connection{norm, Nothing{}, norm};
};

/// h ← x + norm(u)
struct ResPostLNStep : Steps<1, 3> {
  using Steps::Steps;
  void tokennorm() { connection(x, y, workspace); }
  void floor() { add_normed_floor(x.data()); }

  ResPostLNResidual<Nothing, Norm> connection{Nothing{}, norm};
};

/// h ← norm(α·x + u): the loads and stores of PostLNStep.
struct DeepNormStep : Steps<1, 3> {
  using Steps::Steps;
  void tokennorm() { connection(x, y, workspace); }
  void floor() { norm_of_sum_floor(x.data(), y.data()); }

  DeepNormResidual<Nothing, Norm> connection{Nothing{}, norm, 2.5};
};

struct PreLNBlock : Steps<3, 9> {
  using Steps::Steps;
  void tokennorm() { block(x, y, workspace); }
  void floor() {
    norm_floor();
    add_norm_floor(x.data());
    add_floor();
  }

  PreLN<Norm, Nothing, Norm, Nothing> block{norm, Nothing{}, norm, Nothing{}};
};

/// Pre-LN with factors on its updates: the loads and stores of PreLNBlock.
template <class F>
struct PreLNBlockOf : Steps<3, 9> {
  PreLNBlockOf(Shape s, F f) : Steps(s), block(norm, f, norm, f) {}
  void tokennorm() { block(x, y, workspace); }
  void floor() {
    norm_floor();
    add_norm_floor(x.data());
    add_floor();
  }

  PreLN<Norm, F, Norm, F> block;
};
struct ScaledPreLNBlock : PreLNBlockOf<Scaled<Nothing>> {
  explicit ScaledPreLNBlock(Shape s) : PreLNBlockOf(s, {Nothing{}, 0.22}) {}
};
struct LayerScalePreLNBlock : PreLNBlockOf<LayerScale<Nothing>> {
  explicit LayerScalePreLNBlock(Shape s) : PreLNBlockOf(s, {Nothing{}, s.channels, 0.1}) {}
};

/// n = norm(x), then h ← x + u + v
struct ParallelLNBlock : Steps<2, 6> {
  using Steps::Steps;
  void tokennorm() { block(x, y, workspace); }
  void floor() {
    norm_floor();
    run(floors::AddTwo<float>{x.data(), update(), workspace.second_update.data(), y.data(),
                              channels()});
  }

  ParallelLN<Norm, Nothing, SameNorm, Nothing> block{norm, Nothing{}, Nothing{}};
};

/// What fold_norms and center_writers make of PreLNBlock.
struct FoldedPreLNBlock : Steps<3, 9> {
  using Steps::Steps;
  void tokennorm() { block(x, y, workspace); }
  void floor() {
    norm_floor(NoAffine{});
    add_norm_floor(x.data(), NoAffine{});
    add_floor();
  }

  RMSNorm<float> folded{shape.channels, {.epsilon = 1e-5, .scale = false}};
  PreLN<RMSNorm<float>, Nothing, RMSNorm<float>, Nothing> block{folded, Nothing{}, folded,
                                                                Nothing{}};
};

struct PostLNBlock : Steps<2, 6> {
  using Steps::Steps;
  void tokennorm() { block(x, y, workspace); }
  void floor() {
    norm_of_sum_floor(x.data(), stream());
    norm_of_sum_floor(stream(), y.data());
  }

  PostLN<Nothing, Norm, Nothing, Norm> block{Nothing{}, norm, Nothing{}, norm};
};

struct SandwichLNBlock : Steps<3, 9> {
  using Steps::Steps;
  void tokennorm() { block(x, y, workspace); }
  void floor() {
    norm_floor();
    add_normed_norm_floor();
    add_normed_floor(stream());
  }

  SandwichLN<Norm, Nothing, Norm, Norm, Nothing, Norm> block{norm, Nothing{}, norm,
                                                             norm, Nothing{}, norm};
};

}  // namespace

void add_placements() {
  add_cells<PreLNStep>("pre_ln_step", some_shapes);
  add_cells<PostLNStep>("post_ln_step", some_shapes);
  add_cells<SandwichLNSteps>("sandwich_ln_steps", some_shapes);
  add_cells<ResPostLNStep>("res_post_ln_step", some_shapes);
  add_cells<DeepNormStep>("deep_norm_step", some_shapes);
  add_cells<PreLNBlock>("pre_ln_block", some_shapes);
  add_cells<ScaledPreLNBlock>("pre_ln_block_scaled", some_shapes);
  add_cells<LayerScalePreLNBlock>("pre_ln_block_layer_scale", some_shapes);
  add_cells<FoldedPreLNBlock>("pre_ln_block_folded", some_shapes);
  add_cells<ParallelLNBlock>("parallel_ln_block", some_shapes);
  add_cells<PostLNBlock>("post_ln_block", some_shapes);
  add_cells<SandwichLNBlock>("sandwich_ln_block", some_shapes);
}

}  // namespace tokennorm::bench
