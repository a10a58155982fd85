// SPDX-License-Identifier: MIT
/// What belongs to a call of a norm beside its operands, and that no operand stands in it.
#pragma once

#include "tokennorm/core/internals.hpp"
#include "tokennorm/core/operands.hpp"
#include "tokennorm/norm/parameters.hpp"

namespace tokennorm::detail {

/// The memory that belongs to a call beside its operands: that of the parameters, of the
/// statistics, and of the gradients in a backward. Statistics are written in a forward.
template <class Norm, class S, class G>
struct OwnMemory {
  const Norm& norm;
  const TokenStatistics<S>* stats;  // or null
  const NormGradients<G>* gradients;
  Addresses all;

  TOKENNORM_INLINE OwnMemory(const Norm& n, const TokenStatistics<S>* s, const NormGradients<G>* g)
      : norm(n), stats(s), gradients(g) {
    all.include(n.scale());
    all.include(n.shift());
    if (s != nullptr) {
      all.include(s->rstd);
      if constexpr (Norm::centred) all.include(s->mean);
    }
    if (g != nullptr) {
      all.include(g->scale);
      all.include(g->shift);
    }
  }
  /// Fails where an operand shares some of it and one of the two is written.
  template <class T>
  TOKENNORM_INLINE void check_apart(const char* name, const TokenView<T>& view,
                                    bool is_written) const {
    if (addresses_of(view).meet(all)) [[unlikely]]
      check_each(norm, stats, gradients, name, view, is_written);
  }

 private:
  // Not of the object, which would have to be in memory for it.
  [[gnu::noinline]] static void check_each(const Norm& norm, const TokenStatistics<S>* stats,
                                           const NormGradients<G>* gradients, const char* name,
                                           AnyView view, bool is_written) {
    // Operands often lie between what belongs to the call.
    const Addresses addresses = addresses_of(view);
    const auto check = [&](const char* own, const auto& vector) {
      Addresses of_vector;
      of_vector.include(vector);
      if (!addresses.meet(of_vector)) [[likely]]
        return;
      check_shared_elements(Internals::who(norm), name, view, own, view_of(vector), false);
    };
    if (is_written) {
      check("scale", norm.scale());
      check("shift", norm.shift());
    }
    if (stats != nullptr && (is_written || gradients == nullptr)) {
      check("stats.rstd", stats->rstd);
      if constexpr (Norm::centred) check("stats.mean", stats->mean);
    }
    if (gradients != nullptr) {
      check("the gradient of scale", gradients->scale);
      check("the gradient of shift", gradients->shift);
    }
  }
};

}  // namespace tokennorm::detail
