// SPDX-License-Identifier: MIT
// Every placement, for typed tests. The sublayers are a CausalMean and a Linear; LayerNorm and
// RMSNorm stand mixed.
#pragma once

#include "../norm/norm_kinds.hpp"
#include "sublayers.hpp"
#include <tokennorm/block/stack.hpp>
#include <tokennorm/norm/any_norm.hpp>

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace tokennorm::test {

/// Norms with random parameters.
template <class Scalar>
LayerNorm<Scalar> layer_norm(Index channels, Seed seed) {
  return random_norm<Case<LayerKind, Scalar>>(channels, seed);
}
template <class Scalar>
RMSNorm<Scalar> rms_norm(Index channels, Seed seed) {
  return random_norm<Case<RMSKind, Scalar>>(channels, seed, RMSNormOptions{});
}
/// With an offset on the scale, and a shift.
template <class Scalar>
RMSNorm<Scalar> offset_norm(Index channels, Seed seed) {
  RMSNormOptions options = affine_options<RMSKind>(1e-4);
  options.scale_offset = 1;
  return random_norm<Case<RMSKind, Scalar>>(channels, seed, options);
}

struct PreLNResidualPlacement {
  static constexpr const char* name = "PreLNResidual";
  template <class S>
  static auto make(Index c) {
    return PreLNResidual(layer_norm<S>(c, {1}), CausalMean<S>(c, {2}));
  }
};

struct PostLNResidualPlacement {
  static constexpr const char* name = "PostLNResidual";
  template <class S>
  static auto make(Index c) {
    return PostLNResidual(CausalMean<S>(c, {3}), rms_norm<S>(c, {4}));
  }
};

struct SandwichLNResidualPlacement {
  static constexpr const char* name = "SandwichLNResidual";
  template <class S>
  static auto make(Index c) {
    return SandwichLNResidual(layer_norm<S>(c, {5}), CausalMean<S>(c, {6}), offset_norm<S>(c, {7}));
  }
};

struct ResPostLNResidualPlacement {
  static constexpr const char* name = "ResPostLNResidual";
  template <class S>
  static auto make(Index c) {
    return ResPostLNResidual(CausalMean<S>(c, {301}), offset_norm<S>(c, {302}));
  }
};

struct DeepNormResidualPlacement {
  static constexpr const char* name = "DeepNormResidual";
  template <class S>
  static auto make(Index c) {
    return DeepNormResidual(CausalMean<S>(c, {303}), layer_norm<S>(c, {304}), 1.75);
  }
};

struct PreLNPlacement {
  static constexpr const char* name = "PreLN";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 10) {
    return PreLN(layer_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1}), rms_norm<S>(c, {seed + 2}),
                 Linear<S>(c, {seed + 3}));
  }
};

struct PostLNPlacement {
  static constexpr const char* name = "PostLN";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 110) {
    return PostLN(CausalMean<S>(c, {seed}), layer_norm<S>(c, {seed + 1}), Linear<S>(c, {seed + 2}),
                  rms_norm<S>(c, {seed + 3}));
  }
};

struct SandwichLNPlacement {
  static constexpr const char* name = "SandwichLN";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 210) {
    return SandwichLN(rms_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1}),
                      offset_norm<S>(c, {seed + 2}), layer_norm<S>(c, {seed + 3}),
                      Linear<S>(c, {seed + 4}), layer_norm<S>(c, {seed + 5}));
  }
};

struct ResPostLNPlacement {
  static constexpr const char* name = "ResPostLN";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 310) {
    return ResPostLN(CausalMean<S>(c, {seed}), rms_norm<S>(c, {seed + 1}), Linear<S>(c, {seed + 2}),
                     layer_norm<S>(c, {seed + 3}));
  }
};

struct DeepNormPlacement {
  static constexpr const char* name = "DeepNorm";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 410) {
    return DeepNorm(CausalMean<S>(c, {seed}), layer_norm<S>(c, {seed + 1}),
                    Linear<S>(c, {seed + 2}), rms_norm<S>(c, {seed + 3}), 1.5);
  }
};

struct StackOfPreLNPlacement {
  static constexpr const char* name = "StackOfPreLN";
  template <class S>
  static auto blocks(Index c) {
    return std::vector{PreLNPlacement::make<S>(c, 20), PreLNPlacement::make<S>(c, 30),
                       PreLNPlacement::make<S>(c, 40)};
  }
  template <class S>
  static auto make(Index c) {
    return Stack(layer_norm<S>(c, {51}), blocks<S>(c), rms_norm<S>(c, {52}));
  }
};

struct StackOfPreLNWithoutNormsPlacement {
  static constexpr const char* name = "StackOfPreLNWithoutNorms";
  template <class S>
  static auto make(Index c) {
    return Stack(NoNorm{}, StackOfPreLNPlacement::blocks<S>(c), NoNorm{});
  }
};

struct StackOfPostLNPlacement {
  static constexpr const char* name = "StackOfPostLN";
  template <class S>
  static auto make(Index c) {
    return Stack(layer_norm<S>(c, {121}),
                 std::vector{PostLNPlacement::make<S>(c, 130), PostLNPlacement::make<S>(c, 140)},
                 NoNorm{});
  }
};

struct StackOfSandwichLNPlacement {
  static constexpr const char* name = "StackOfSandwichLN";
  template <class S>
  static auto make(Index c) {
    return Stack(
        NoNorm{},
        std::vector{SandwichLNPlacement::make<S>(c, 220), SandwichLNPlacement::make<S>(c, 230)},
        rms_norm<S>(c, {241}));
  }
};

struct StackOfResPostLNPlacement {
  static constexpr const char* name = "StackOfResPostLN";
  template <class S>
  static auto make(Index c) {
    return Stack(
        NoNorm{},
        std::vector{ResPostLNPlacement::make<S>(c, 320), ResPostLNPlacement::make<S>(c, 330)},
        rms_norm<S>(c, {341}));
  }
};

struct StackOfDeepNormPlacement {
  static constexpr const char* name = "StackOfDeepNorm";
  template <class S>
  static auto make(Index c) {
    return Stack(
        layer_norm<S>(c, {421}),
        std::vector{DeepNormPlacement::make<S>(c, 430), DeepNormPlacement::make<S>(c, 440)},
        NoNorm{});
  }
};

struct ParallelLNPlacement {
  static constexpr const char* name = "ParallelLN";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 510) {
    return ParallelLN(layer_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1}),
                      Linear<S>(c, {seed + 2}));
  }
};

struct ParallelLNOfTwoNormsPlacement {
  static constexpr const char* name = "ParallelLNOfTwoNorms";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 520) {
    return ParallelLN(layer_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1}),
                      offset_norm<S>(c, {seed + 2}), Linear<S>(c, {seed + 3}));
  }
};

struct ScaledPlacement {
  static constexpr const char* name = "Scaled";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 530) {
    return PreLN(layer_norm<S>(c, {seed}),
                 LayerScale<CausalMean<S>, Accumulator<S>>(CausalMean<S>(c, {seed + 1}), c, 0.3),
                 rms_norm<S>(c, {seed + 2}), Scaled(Linear<S>(c, {seed + 3}), 0.22));
  }
};

/// A learned factor behind the norm on the update, and both kinds on one update.
struct ScaledSandwichPlacement {
  static constexpr const char* name = "ScaledSandwich";
  template <class S>
  static auto make(Index c) {
    return SandwichLNResidual(layer_norm<S>(c, {541}),
                              LayerScale<Scaled<CausalMean<S>>, Accumulator<S>>(
                                  Scaled(CausalMean<S>(c, {542}), -1.5), c, 0.5),
                              offset_norm<S>(c, {543}));
  }
};

/// Three connections: of a Pre-LN, a Sandwich-LN and a DeepNorm.
struct BlockOfThreePlacement {
  static constexpr const char* name = "BlockOfThree";
  template <class S>
  static auto make(Index c, std::uint64_t seed = 550) {
    return Block(PreLNResidual(layer_norm<S>(c, {seed}), CausalMean<S>(c, {seed + 1})),
                 named("cross_attention",
                       SandwichLNResidual(rms_norm<S>(c, {seed + 2}), Linear<S>(c, {seed + 3}),
                                          layer_norm<S>(c, {seed + 4}))),
                 DeepNormResidual(Linear<S>(c, {seed + 5}), layer_norm<S>(c, {seed + 6}), 1.25));
  }
};

struct StackOfATuplePlacement {
  static constexpr const char* name = "StackOfATuple";
  template <class S>
  static auto make(Index c) {
    return Stack(layer_norm<S>(c, {561}),
                 std::tuple(PreLNPlacement::make<S>(c, 570), ParallelLNPlacement::make<S>(c, 580),
                            DeepNormPlacement::make<S>(c, 590), ScaledPlacement::make<S>(c, 600),
                            ParallelLNOfTwoNormsPlacement::make<S>(c, 610)),
                 rms_norm<S>(c, {562}));
  }
};

struct StackOfVariantsPlacement {
  static constexpr const char* name = "StackOfVariants";
  template <class S>
  static auto make(Index c) {
    using Pre = decltype(PreLNPlacement::make<S>(c));
    using Res = decltype(ResPostLNPlacement::make<S>(c));
    std::vector<std::variant<Pre, Res>> blocks;
    blocks.push_back(ResPostLNPlacement::make<S>(c, 620));
    blocks.push_back(PreLNPlacement::make<S>(c, 630));
    blocks.push_back(ResPostLNPlacement::make<S>(c, 640));
    return Stack(NoNorm{}, std::move(blocks), layer_norm<S>(c, {650}));
  }
};

struct AnyNormPlacement {
  static constexpr const char* name = "AnyNorm";
  template <class S>
  static auto make(Index c) {
    const auto any = [&](const auto& norm, NormKind kind) {
      AnyNorm<S> result(kind, c, {.epsilon = norm.options().epsilon});
      result.scale() = norm.scale();
      result.shift() = norm.shift();
      return result;
    };
    return PreLN(any(layer_norm<S>(c, {661}), NormKind::layer_norm), CausalMean<S>(c, {662}),
                 any(rms_norm<S>(c, {663}), NormKind::rms_norm), Linear<S>(c, {664}));
  }
};

using AllPlacements =
    ::testing::Types<PreLNResidualPlacement, PostLNResidualPlacement, SandwichLNResidualPlacement,
                     ResPostLNResidualPlacement, DeepNormResidualPlacement, PreLNPlacement,
                     StackOfPreLNPlacement, StackOfPreLNWithoutNormsPlacement, PostLNPlacement,
                     StackOfPostLNPlacement, SandwichLNPlacement, StackOfSandwichLNPlacement,
                     ResPostLNPlacement, StackOfResPostLNPlacement, DeepNormPlacement,
                     StackOfDeepNormPlacement, ParallelLNPlacement, ParallelLNOfTwoNormsPlacement,
                     ScaledPlacement, ScaledSandwichPlacement, BlockOfThreePlacement,
                     StackOfATuplePlacement, StackOfVariantsPlacement, AnyNormPlacement>;

struct PlacementName {
  template <class Placement>
  static std::string GetName(int) {
    return Placement::name;
  }
};

}  // namespace tokennorm::test
