// SPDX-License-Identifier: MIT
/// A LayerNorm or an RMSNorm, the kind chosen at run time: by a configuration, say.
#pragma once

#include "tokennorm/core/checks.hpp"
#include "tokennorm/core/internals.hpp"
#include "tokennorm/norm/layer_norm.hpp"
#include "tokennorm/norm/parameters.hpp"
#include "tokennorm/norm/rms_norm.hpp"

#include <optional>
#include <utility>
#include <variant>

namespace tokennorm {

/// The options of LayerNorm and RMSNorm. One that is not given is that of the kind by default.
struct AnyNormOptions {
  /// See LayerNormOptions and RMSNormOptions.
  std::optional<double> epsilon = {};
  std::optional<bool> scale = {};
  std::optional<bool> shift = {};
  std::optional<double> scale_offset = {};
  std::optional<Index> statistics_channels = {};  // only 0 (all) for a LayerNorm
};

/// y = LayerNorm(x) or RMSNorm(x).
///
/// Shapes, error, aliasing   those of the norm inside, whose bits the results have
/// Throws   what the norm inside throws, under its name: "RMSNorm(768): …";
///          std::invalid_argument for statistics_channels of a LayerNorm
///
///     AnyNorm<float> norm(NormKind::rms_norm, 768, {.epsilon = 1e-5});
///     norm.kind();               // NormKind::rms_norm
///     norm.options().epsilon;    // 1e-5: the options in force
///
/// The members are otherwise those of LayerNorm, the executor as the last argument included.
template <class Param = float>
class AnyNorm {
 public:
  /// The options in force; a LayerNorm's statistics are of all channels.
  struct Options {
    /// See RMSNormOptions.
    double epsilon;
    bool scale;
    bool shift;
    double scale_offset;
    Index statistics_channels;

    /// All of them given.
    operator AnyNormOptions() const {
      return {epsilon, scale, shift, scale_offset, statistics_channels};
    }
  };
  /// Those of the norm inside.
  using ParamScalar = Param;
  using Vector = typename LayerNorm<Param>::Vector;
  using GradientScalar = typename LayerNorm<Param>::GradientScalar;
  using GradientVector = typename LayerNorm<Param>::GradientVector;

  /// γ = 1 − scale_offset, β = 0.
  explicit AnyNorm(NormKind kind, Index channels, AnyNormOptions options = {})
      : norm_(made(kind, channels, options)) {}

  /// Each as of LayerNorm: C, the kind, the options in force, γ and β.
  Index channels() const {
    return with_kind([](const auto& norm) { return norm.channels(); });
  }
  NormKind kind() const {
    return with_kind([](const auto& norm) { return norm.kind(); });
  }
  Options options() const;
  Vector& scale() {
    return with_kind([](auto& norm) -> Vector& { return norm.scale(); });
  }
  const Vector& scale() const {
    return with_kind([](const auto& norm) -> const Vector& { return norm.scale(); });
  }
  Vector& shift() {
    return with_kind([](auto& norm) -> Vector& { return norm.shift(); });
  }
  const Vector& shift() const {
    return with_kind([](const auto& norm) -> const Vector& { return norm.shift(); });
  }

  /// The calls take what the norms inside take.
  template <class... Args>
  auto operator()(Args&&... args) const
      -> decltype(std::declval<const LayerNorm<Param>&>()(std::forward<Args>(args)...)) {
    return with_kind([&](const auto& norm) { return norm(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void normalize(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.normalize(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void backpropagate(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.backpropagate(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void normalize_sum(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.normalize_sum(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void backpropagate_sum(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.backpropagate_sum(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void partial_statistics(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.partial_statistics(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void partial_statistics_sum(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.partial_statistics_sum(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void apply(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.apply(std::forward<Args>(args)...); });
  }
  template <class... Args>
  void partial_gradient_sums(Args&&... args) const {
    with_kind([&](const auto& norm) { norm.partial_gradient_sums(std::forward<Args>(args)...); });
  }
  template <class... Args>
  auto forward(Args&&... args) {
    return with_kind([&](auto& norm) { return norm.forward(std::forward<Args>(args)...); });
  }
  template <class... Args>
  auto backward(Args&&... args) {
    return with_kind([&](auto& norm) { return norm.backward(std::forward<Args>(args)...); });
  }
  NormGradients<GradientScalar>& gradients() {
    return with_kind([](auto& norm) -> NormGradients<GradientScalar>& { return norm.gradients(); });
  }
  void zero_gradients() {
    with_kind([](auto& norm) { norm.zero_gradients(); });
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    with_kind([&](auto& norm) { norm.visit_parameters(std::forward<Visitor>(visitor)); });
  }

 private:
  friend struct detail::Internals;
  using Either = std::variant<LayerNorm<Param>, RMSNorm<Param>>;

  static Either made(NormKind kind, Index channels, const AnyNormOptions& given);

  /// f of the norm inside.
  decltype(auto) with_kind(const auto& f) { return std::visit(f, norm_); }
  decltype(auto) with_kind(const auto& f) const { return std::visit(f, norm_); }

  detail::Who who() const {
    return with_kind([](const auto& norm) { return detail::Internals::who(norm); });
  }
  void check_parameters() const {
    with_kind([](const auto& norm) { detail::Internals::check_parameters(norm); });
  }
  void check_output(const auto& y) const {
    with_kind([&](const auto& norm) { detail::Internals::check_output(norm, y); });
  }

  Either norm_;
};

// ---------------------------------------------------------------------------------------------

namespace detail {

/// Those that are given, in place of the kind's own.
template <class Options>
Options kind_options(const AnyNormOptions& given) {
  Options options;
  options.epsilon = given.epsilon.value_or(options.epsilon);
  options.scale = given.scale.value_or(options.scale);
  options.shift = given.shift.value_or(options.shift);
  options.scale_offset = given.scale_offset.value_or(options.scale_offset);
  if constexpr (requires { options.statistics_channels; }) {
    options.statistics_channels = given.statistics_channels.value_or(options.statistics_channels);
  }
  return options;
}

}  // namespace detail

template <class Param>
auto AnyNorm<Param>::made(NormKind kind, Index channels, const AnyNormOptions& given) -> Either {
  if (kind == NormKind::rms_norm) {
    return RMSNorm<Param>(channels, detail::kind_options<RMSNormOptions>(given));
  }
  if (const Index counted = given.statistics_channels.value_or(0); counted != 0) {
    detail::fail({detail::LayerNormKind::name, channels},
                 {"statistics_channels is ", counted,
                  "; expected 0 (all): only an RMSNorm can take its statistics of some channels"});
  }
  return LayerNorm<Param>(channels, detail::kind_options<LayerNormOptions>(given));
}

template <class Param>
auto AnyNorm<Param>::options() const -> Options {
  return with_kind([](const auto& norm) {
    const auto& inside = norm.options();
    Options options{inside.epsilon, inside.scale, inside.shift, inside.scale_offset, 0};
    if constexpr (requires { inside.statistics_channels; }) {
      options.statistics_channels = inside.statistics_channels;
    }
    return options;
  });
}

}  // namespace tokennorm
