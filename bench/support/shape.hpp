// SPDX-License-Identifier: MIT
/// The shapes that are measured, and what is asked of the library at each.
#pragma once

#include <tokennorm/core/scalar.hpp>

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace tokennorm::bench {

struct Shape {
  Index tokens, channels;

  Index size() const { return tokens * channels; }
  std::string text() const { return std::to_string(tokens) + "x" + std::to_string(channels); }
};

/// Every shape of the table. (65536 x 64 and 128: queries or keys, normalized head by head.)
inline const std::vector<Shape> all_shapes = {
    {1, 768},     {1, 4096},  {1, 8192},  {16, 64},   {4096, 64},   {333, 100},   {65536, 64},
    {65536, 128}, {64, 1024}, {128, 768}, {512, 768}, {1000, 1000}, {2048, 4096}, {16384, 1024}};

/// One of each kind: a token, few channels in L2 and beyond, odd, in L2, in L3.
inline const std::vector<Shape> some_shapes = {{1, 768},   {16, 64},   {4096, 64},  {333, 100},
                                               {64, 1024}, {512, 768}, {2048, 4096}};

/// For what differs little from a case that has more.
inline const std::vector<Shape> few_shapes = {{1, 768}, {333, 100}, {512, 768}};

/// The time that is allowed: ratio × floor + extra, or that of one thread / speedup. All 0: any.
struct Target {
  double ratio = 0;
  double extra_nanoseconds = 0;
  double speedup = 0;
};

/// From here on streaming stores may win, and the floor is the best copy.
constexpr Index large_output_bytes = Index{64} << 20;

template <class Scalar>
bool has_large_output(Shape shape) {
  return shape.size() * Index{sizeof(Scalar)} >= large_output_bytes;
}

/// The second level cache of one core.
inline Index l2_bytes() {
  for (const auto& cache : benchmark::CPUInfo::Get().caches) {
    if (cache.level == 2) return cache.size;
  }
  return Index{1} << 20;
}

/// For the forward norms and the residual steps of `steps` sweeps over the stream.
template <class Scalar>
Target forward_target(Shape shape, Index bytes, int steps = 1) {
  constexpr bool converts = sizeof(Scalar) == 2;
  if (shape.tokens == 1) return {1, 35.0 * steps};
  if (shape.tokens < 16) return {};
  if (has_large_output<Scalar>(shape)) return {1.10};
  const bool in_l2 = bytes < l2_bytes();
  if (shape.channels >= 512) return {converts ? 1.3 : 1.15};
  if (shape.channels >= 16 && shape.channels <= 128) {
    return {in_l2 ? (converts ? 1.8 : 1.6) : (converts ? 1.3 : 1.15)};
  }
  return {};
}

inline Target backward_target(Shape shape) { return {shape.channels >= 512 ? 1.5 : 0.0}; }

}  // namespace tokennorm::bench
