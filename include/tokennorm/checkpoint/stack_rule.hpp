// SPDX-License-Identifier: MIT
/// Whether a stack is one of a family: its norms, and its rule for the residual stream. A model
/// that has another of either computes something else, so that its parameters are not loaded.
///
/// Throws   std::runtime_error that says what the stack has and what the family's models have;
///          std::invalid_argument for a norm in no role
#pragma once

#include "tokennorm/block/stack.hpp"
#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/family_table.hpp"
#include "tokennorm/core/internals.hpp"

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <type_traits>

namespace tokennorm::detail {

/// "attention_norm of layer 3"
[[gnu::cold, gnu::noinline]] inline std::string place_text(const std::string& what, NormRole role,
                                                           Index layer) {
  return is_of_layer(role) ? what + " of layer " + std::to_string(layer) : what;
}

/// A config that was written from float has 9.999999747378752e-06 for 1e-5.
inline bool is_same_number(double value, double expected) {
  return std::abs(value - expected) <= 0x1p-24 * std::abs(expected);
}

/// The role of a norm that a block calls "attention_norm".
[[gnu::noinline]] inline NormRole role_of(const std::string& part, const char* what) {
  const std::string name_in_block = part.empty() ? what : part + "_" + what;
  for (std::size_t i = 0; i < role_count; ++i) {
    const auto role = static_cast<NormRole>(i);
    if (is_of_layer(role) && !is_inside_sublayer(role) &&
        name_in_block == std::string(role_names[i]) + "_norm") {
      return role;
    }
  }
  fail({"Stack"}, {"a block's norm is called ", name_in_block.c_str(),
                   ", which is no role in a family; expected blocks of attention and feed_forward, "
                   "such as PreLN"});
}

/// f(role, layer, norm) for every norm of a stack.
template <class AnyStack, class F>
void each_norm(AnyStack& stack, const F& f) {
  const auto visit = [&](NormRole role, Index layer, auto& norm) {
    if constexpr (is_norm<decltype(norm)>) f(role, layer, norm);
  };
  visit(NormRole::embedding, 0, stack.embedding_norm());
  Internals::each_block(stack, [&](auto& block, Index layer) {
    Internals::each(block, [&](auto& connection) {
      each_norm_of(connection, [&](auto& norm, const std::string& part, const char* what) {
        if constexpr (is_norm<decltype(norm)>) f(role_of(part, what), layer, norm);
      });
    });
  });
  visit(NormRole::final, 0, stack.final_norm());
}

/// Which placement a connection is, or none that a family has.
template <class ConnectionType>
inline constexpr std::optional<Placement> placement_of =
    placement_of<typename ConnectionType::Parts>;
template <class Out, class F>
inline constexpr std::optional<Placement> placement_of<Connection<Out, F>> =
    []() -> std::optional<Placement> {
  constexpr bool pre = is_norm<typename F::PreNorm>, post = is_norm<typename F::PostNorm>;
  if (is_norm<Out>) {
    if (pre || post) return {};
    return Placement::post_ln;
  }
  if (pre) return post ? Placement::sandwich_ln : Placement::pre_ln;
  return Placement::residual_post_norm;
}();
template <class Out, class F, class G>
inline constexpr std::optional<Placement> placement_of<Connection<Out, F, G>> =
    []() -> std::optional<Placement> {
  using Second = typename G::PreNorm;
  if (is_norm<Out> || is_norm<typename F::PostNorm> || is_norm<typename G::PostNorm> ||
      !is_norm<typename F::PreNorm>) {
    return {};
  }
  if (is_norm<Second>) return Placement::parallel_two_norms;
  if (std::is_same_v<Second, SameNorm>) return Placement::parallel;
  return {};
}();
/// Whether it is a bare h + f(h), as before attention in a first block whose input is normed.
template <class ConnectionType>
inline constexpr bool has_no_norm = has_no_norm<typename ConnectionType::Parts>;
template <class Out, class... Branches>
inline constexpr bool has_no_norm<Connection<Out, Branches...>> =
    !is_norm<Out> &&
    !((is_norm<typename Branches::PreNorm> || is_norm<typename Branches::PostNorm>) || ...);

/// What multiplies an update on its way into the stream.
struct UpdateScale {
  double factor = 1;
  bool is_scaled = false, has_layer_scale = false;
};
void add_scale_of(const auto& sublayer, UpdateScale& scale) {
  const auto& f = unwrap(sublayer);
  using F = std::remove_cvref_t<decltype(f)>;
  if constexpr (is_scaled<F>) {
    scale.factor *= f.factor();
    scale.is_scaled = true;
  }
  scale.has_layer_scale = scale.has_layer_scale || is_layer_scale<F>;
  if constexpr (is_scaled<F> || is_layer_scale<F> || is_drop_path<F>) {
    add_scale_of(f.sublayer(), scale);
  }
}

/// Whether any ε fits: it varies, and this copy of the row has the row's usual one.
inline bool has_open_epsilon(const Family& family) {
  const FamilyRow* const row = row_named(family.name);
  return family.epsilon_varies && (row == nullptr || row->epsilon == family.epsilon);
}

/// Fails unless the norm is of the family's kind.
template <class Norm>
void check_kind(Who who, const Family& family, NormRole role, Index layer, const Norm& norm) {
  const auto fail_because = [&](const std::string& is, const std::string& expected) {
    fail_in_file(who, place_text(std::string(name_of(role)) + "_norm", role, layer) + " " + is +
                          "; expected " + expected + " for " + family.name);
  };
  const auto check_number = [&](const char* what, double value, double expected,
                                const char* advice) {
    if (is_same_number(value, expected)) return;
    fail_because(std::string("has ") + what + " " + number_text(value, expected),
                 number_text(expected, value) + advice);
  };
  const auto with_article = [](NormKind kind) {
    return (kind == NormKind::rms_norm ? "an " : "a ") + std::string(name_of(kind));
  };
  const NormKind kind = norm.kind();
  const auto& options = norm.options();
  if (kind != family.norm) fail_because("is " + with_article(kind), with_article(family.norm));
  if constexpr (requires { options.statistics_channels; }) {
    if (options.statistics_channels != 0 && options.statistics_channels != norm.channels()) {
      fail_because("has statistics_channels " + std::to_string(options.statistics_channels), "0");
    }
  }
  check_number("scale_offset", options.scale_offset, family.scale_offset, "");
  if (!has_open_epsilon(family)) {
    check_number("epsilon", options.epsilon, family.epsilon,
                 " (if the model has another, give a copy of the family with that epsilon)");
  }
}

/// Fails unless the update of this branch is multiplied as in the family's models.
inline void check_scale(Who who, const Family& family, const std::string& part, Index layer,
                        const UpdateScale& scale) {
  const auto fail_because = [&](const std::string& is, const std::string& expected) {
    fail_in_file(who, part + " of layer " + std::to_string(layer) + " " + is + "; expected " +
                          expected + " for " + family.name);
  };
  if (scale.has_layer_scale != family.layer_scale) {
    fail_because(family.layer_scale ? "has no LayerScale" : "has a LayerScale",
                 family.layer_scale ? "one, LayerScale(f, channels)," : "none");
  }
  if (!family.residual_scale_key.empty() && family.residual_scale == 1) {
    if (!scale.is_scaled) {
      fail_because("is not scaled", "Scaled(f, s) with the " + family.residual_scale_key +
                                        " of the model's config.json");
    }
  } else if (!is_same_number(scale.factor, family.residual_scale)) {
    fail_because("is scaled by " + number_text(scale.factor, family.residual_scale),
                 number_text(family.residual_scale, scale.factor) +
                     " (if the model has another, give a copy of the family with that "
                     "residual_scale)");
  }
}

/// Fails unless the stack's norms and its rule for the residual stream are those of the family.
template <class AnyStack>
void check_fits(const AnyStack& stack, const Family& family) {
  const Who who = Internals::who(stack);
  if (const char* reason = refusal_of(family.placement)) {
    fail_in_file(who, "a model of " + family.name + " " + reason + ", which no block here does");
  }
  Internals::each_block(stack, [&](const auto& block, Index layer) {
    Internals::each(block, [&](const auto& connection) {
      using ConnectionType = std::remove_cvref_t<decltype(connection)>;
      constexpr std::optional<Placement> placement = placement_of<ConnectionType>;
      const bool is_placed = placement == family.placement || has_no_norm<ConnectionType>;
      if (!is_placed || !is_same_number(connection.alpha, family.alpha)) {
        const auto with_alpha = [](double alpha, double other) {
          return alpha == 1 ? "" : " with alpha " + number_text(alpha, other);
        };
        fail_in_file(who, std::string("the blocks are ") +
                              (placement ? name_of(*placement) : "of a placement of their own") +
                              with_alpha(connection.alpha, family.alpha) + "; expected " +
                              name_of(family.placement) +
                              with_alpha(family.alpha, connection.alpha) + " for " + family.name);
      }
      connection.branches.each([&](const auto& branch) {
        UpdateScale scale;
        add_scale_of(branch.f, scale);
        check_scale(who, family, branch.name, layer, scale);
      });
    });
  });
  each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    check_kind(who, family, role, layer, norm);
  });
}

}  // namespace tokennorm::detail
