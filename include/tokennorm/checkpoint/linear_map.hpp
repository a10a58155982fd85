// SPDX-License-Identifier: MIT
/// A linear map of a model as norms are folded into it: its weight, which says by its type whether
/// rows are outputs or inputs, and its bias or none.
///
///     OutIn{weight, bias}     y = W·x + b     W (outputs, inputs)
///     InOut{weight, bias}     y = x·W + b     W (inputs, outputs)
///     OutIn{weight}           without bias; an empty bias is none too
#pragma once

#include "tokennorm/core/concepts.hpp"

#include <Eigen/Core>

#include <type_traits>

namespace tokennorm {

/// Of a linear map without one.
struct NoBias {};

/// The linear map y = W·x + b, W (outputs, inputs): PyTorch's Linear. Matrices and vectors are
/// referred to; views of them (Map, Block, Ref) are kept. An empty bias is none.
template <class Weight, class Bias = NoBias>
struct OutIn {
  Weight weight;                                  ///< W
  Bias bias = {};                                 ///< b
  static constexpr bool rows_are_outputs = true;  ///< of W
};
/// Refers to what has a name.
template <class Weight>
OutIn(Weight&&) -> OutIn<Weight>;
template <class Weight, class Bias>
OutIn(Weight&&, Bias&&) -> OutIn<Weight, Bias>;

/// The linear map y = x·W + b, W (inputs, outputs): GPT-2's Conv1D, or tokens times a matrix.
template <class Weight, class Bias = NoBias>
struct InOut {
  Weight weight;                                   ///< W
  Bias bias = {};                                  ///< b
  static constexpr bool rows_are_outputs = false;  ///< of W
};
/// Refers to what has a name.
template <class Weight>
InOut(Weight&&) -> InOut<Weight>;
template <class Weight, class Bias>
InOut(Weight&&, Bias&&) -> InOut<Weight, Bias>;

namespace detail {

template <class Map>
inline constexpr bool is_linear_map = false;
template <class Weight, class Bias>
inline constexpr bool is_linear_map<OutIn<Weight, Bias>> = true;
template <class Weight, class Bias>
inline constexpr bool is_linear_map<InOut<Weight, Bias>> = true;

template <class Map>
inline constexpr bool has_bias = !std::is_same_v<decltype(Map::bias), NoBias>;

template <class Part>
constexpr bool check_part() {
  constexpr bool writable = is_writable<std::remove_reference_t<Part>&>;
  constexpr bool kept = std::is_reference_v<Part> || !is_plain<Part>;
  static_assert(writable,
                "tokennorm: the weight or bias of a linear map cannot be written to. Give a matrix "
                "or vector, or a Map, Block or Ref of non-const memory.");
  static_assert(kept,
                "tokennorm: a linear map is given a temporary matrix or vector, whose change would "
                "be lost. Give the one that the model uses, or a view of it.");
  return writable && kept;
}

/// What can be known of a linear map from its type. Where this is false it has said why, and what
/// follows is left out, so that the compiler says nothing more.
template <class Map>
constexpr bool check_linear_map() {
  static_assert(is_linear_map<Map>,
                "tokennorm: a reader or writer is not a linear map. Give OutIn{weight, bias} or "
                "InOut{weight, bias}, as the weight is (outputs, inputs) or (inputs, outputs).");
  if constexpr (!is_linear_map<Map>) {
    return false;
  } else if constexpr (has_bias<Map>) {
    return check_part<decltype(Map::weight)>() && check_part<decltype(Map::bias)>();
  } else {
    return check_part<decltype(Map::weight)>();
  }
}

template <class Map>
Index inputs_of(const Map& map) {
  return Map::rows_are_outputs ? map.weight.cols() : map.weight.rows();
}
template <class Map>
Index outputs_of(const Map& map) {
  return Map::rows_are_outputs ? map.weight.rows() : map.weight.cols();
}
template <class Map>
Index bias_size(const Map& map) {
  if constexpr (has_bias<Map>) {
    return map.bias.size();
  } else {
    return 0;
  }
}

/// The type to compute in where values are of this scalar.
template <class Scalar>
using FoldScalar = std::conditional_t<NativeScalar<Scalar>, double, Scalar>;

/// f(output, input, weight) for every weight, an lvalue.
template <class Map, class F>
void each_weight(Map& map, const F& f) {
  for (Index r = 0; r < map.weight.rows(); ++r) {
    for (Index c = 0; c < map.weight.cols(); ++c) {
      f(Map::rows_are_outputs ? r : c, Map::rows_are_outputs ? c : r, map.weight(r, c));
    }
  }
}

template <class Map>
using WeightScalar = ScalarOf<decltype(Map::weight)>;

template <class A>
using FoldVector = Eigen::Matrix<A, Eigen::Dynamic, 1>;

struct AnyLinearMap {
  void operator()(auto&&) const {}
};

/// A sublayer that names the linear maps that read its input.
template <class F>
concept HasReaders = requires(F& f) {
  f.visit_readers(AnyLinearMap{});
};
/// A sublayer that names those that write its output.
template <class F>
concept HasWriters = requires(F& f) {
  f.visit_writers(AnyLinearMap{});
};

}  // namespace detail
}  // namespace tokennorm
