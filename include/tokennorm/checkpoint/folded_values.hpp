// SPDX-License-Identifier: MIT
/// What folding and centring make of each weight and bias of a linear map. Every result goes to a
/// `store`, twice: CheckFits sees all of them before Write changes the first.
///
///     store(to, value, sources_are_finite, output, input)    // of a bias input is -1
///
/// Error    the value has the arithmetic of FoldScalar, and is rounded once
/// Throws   std::invalid_argument that names the linear map, where a result is beyond its scalar
#pragma once

#include "tokennorm/checkpoint/linear_map.hpp"
#include "tokennorm/checkpoint/rounding.hpp"
#include "tokennorm/core/checks.hpp"

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

namespace tokennorm::detail {

struct Write {
  void operator()(auto& to, const auto& value, const auto&, Index, Index) const {
    to = rounded<std::remove_reference_t<decltype(to)>>(value);
  }
};

/// Infinity and NaN are results where one of their sources is: they were in the model before.
struct CheckFits {
  Who who;
  std::string name;

  void operator()(const auto& to, const auto& value, const auto& sources_are_finite, Index output,
                  Index input) const {
    using Scalar = std::remove_cvref_t<decltype(to)>;
    if (is_finite(rounded<Scalar>(value)) || (!is_finite(value) && !sources_are_finite())) return;
    fail_because(output, input, beyond_largest<Scalar>(value));
  }

 private:
  [[noreturn, gnu::cold, gnu::noinline]] void fail_because(Index output, Index input,
                                                           const std::string& beyond) const {
    const std::string of_input = input < 0 ? "" : " and input " + std::to_string(input);
    fail(who, {name.c_str(), input < 0 ? "'s bias" : "'s weight", " of output ", output,
               of_input.c_str(), " would be ", beyond.c_str()});
  }
};

/// A sum for each line of weights, and whether all that went into it is finite.
template <class A>
struct LineSums {
  FoldVector<A> sum;
  std::vector<bool> finite;

  explicit LineSums(Index lines)
      : sum(FoldVector<A>::Zero(lines)), finite(static_cast<std::size_t>(lines), true) {}
  void add(Index line, const A& value, bool is_finite_value) {
    sum(line) += value;
    if (!is_finite_value) finite[static_cast<std::size_t>(line)] = false;
  }
  bool is_finite_in(Index line) const { return finite[static_cast<std::size_t>(line)]; }
};

/// b' = b + gains
template <class A, class Map, class Store>
void add_to_bias(Map& map, const LineSums<A>& gains, const Store& store) {
  if constexpr (has_bias<Map>) {
    for (Index o = 0; o < map.bias.size(); ++o) {
      auto& bias = map.bias(o);
      const auto finite = [&] { return is_finite(bias) && gains.is_finite_in(o); };
      store(bias, A(static_cast<A>(bias) + gains.sum(o)), finite, o, -1);
    }
  }
}

/// b' = b + W·β, W' = W·diag(o + γ)
template <class Norm, class Reader, class Store>
void fold_into(const Norm& norm, Reader& reader, const Store& store) {
  using A = FoldScalar<WeightScalar<Reader>>;
  const Index channels = norm.channels();
  FoldVector<A> factor = FoldVector<A>::Ones(channels), shift = FoldVector<A>::Zero(channels);
  for (Index i = 0; i < norm.scale().size(); ++i) {
    factor(i) = static_cast<A>(norm.options().scale_offset) + static_cast<A>(norm.scale()(i));
  }
  for (Index i = 0; i < norm.shift().size(); ++i) shift(i) = static_cast<A>(norm.shift()(i));

  if (norm.options().shift) {
    LineSums<A> gains(outputs_of(reader));
    each_weight(reader, [&](Index output, Index input, const auto& weight) {
      gains.add(output, static_cast<A>(weight) * shift(input),
                is_finite(weight) && is_finite(shift(input)));
    });
    add_to_bias(reader, gains, store);
  }
  each_weight(reader, [&](Index output, Index input, auto& weight) {
    const auto finite = [&] { return is_finite(weight) && is_finite(factor(input)); };
    store(weight, A(static_cast<A>(weight) * factor(input)), finite, output, input);
  });
}

/// Each line of weights, those of an output or those of an input, loses its mean.
template <bool of_outputs, class Map, class Store>
void center_lines(Map& map, const Store& store) {
  using A = FoldScalar<WeightScalar<Map>>;
  LineSums<A> means(of_outputs ? outputs_of(map) : inputs_of(map));
  each_weight(map, [&](Index output, Index input, const auto& weight) {
    means.add(of_outputs ? output : input, static_cast<A>(weight), is_finite(weight));
  });
  means.sum /= static_cast<A>(of_outputs ? inputs_of(map) : outputs_of(map));
  each_weight(map, [&](Index output, Index input, auto& weight) {
    const Index line = of_outputs ? output : input;
    const auto finite = [&] { return means.is_finite_in(line); };
    store(weight, A(static_cast<A>(weight) - means.sum(line)), finite, output, input);
  });
}

/// What the writer gives loses its mean over the outputs.
template <class Writer, class Store>
void center_outputs(Writer& writer, const Store& store) {
  center_lines</*of_outputs=*/false>(writer, store);
  if constexpr (has_bias<Writer>) {
    using A = FoldScalar<WeightScalar<Writer>>;
    if (writer.bias.size() == 0) return;
    A mean = 0;
    bool finite = true;
    for (Index o = 0; o < writer.bias.size(); ++o) {
      mean += static_cast<A>(writer.bias(o));
      finite = finite && is_finite(writer.bias(o));
    }
    LineSums<A> gains(writer.bias.size());
    for (Index o = 0; o < writer.bias.size(); ++o) {
      gains.add(o, A(-mean / static_cast<A>(writer.bias.size())), finite);
    }
    add_to_bias(writer, gains, store);
  }
}

}  // namespace tokennorm::detail
