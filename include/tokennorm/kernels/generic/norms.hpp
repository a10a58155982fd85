// SPDX-License-Identifier: MIT
/// The same norms for any other Eigen scalar (long double, AutoDiffScalar, …): plain loops over any
/// strides, in that scalar throughout. The mean is corrected by the mean of the deviations; there
/// is no wider type to fall back on.
#pragma once

#include "tokennorm/core/token_view.hpp"
#include "tokennorm/kernels/operands.hpp"

#include <Eigen/Core>

#include <cmath>
#include <type_traits>

namespace tokennorm::kernels::generic {

using detail::TokenView;

/// A norm, as in NormArguments, and where its statistics are: written forward, read backward.
template <bool Centred, class S, class Statistic>
struct NormArguments {
  static constexpr bool centred = Centred;
  const S* scale;
  const S* shift;
  S scale_offset, epsilon;
  Index statistics_channels;
  Statistic* mean;
  Statistic* rstd;

  Index count(Index channels) const {
    return Centred || statistics_channels == 0 ? channels : statistics_channels;
  }
  S factor(Index c) const { return scale == nullptr ? S(1) : S(scale[c] + scale_offset); }
};

template <class T>
T& at(const TokenView<T>& view, Index t, Index c) {
  return view.data[t * view.token_stride + c * view.channel_stride];
}

template <class S>
S mean_about(const TokenView<const S>& x, Index t, Index n, const S& pivot) {
  S sum(0);
  for (Index c = 0; c < n; ++c) sum += S(at(x, t, c) - pivot);
  return sum / S(static_cast<double>(n));
}

/// y = N(x), token by token; y may be x.
template <bool Centred, class S>
void normalize(const TokenView<const S>& x, const TokenView<S>& y,
               const NormArguments<Centred, S, S>& norm, Index begin, Index end) {
  using std::sqrt;
  for (Index t = begin; t < end; ++t) {
    const Index n = norm.count(x.channels);
    S mean(0);
    if constexpr (Centred) {
      mean = mean_about(x, t, n, mean);
      mean += mean_about(x, t, n, mean);
    }
    S squares(0);
    for (Index c = 0; c < n; ++c) {
      const S d = at(x, t, c) - mean;
      squares += S(d * d);
    }
    const S radicand = squares / S(static_cast<double>(n)) + norm.epsilon;
    const S rstd = radicand == S(0) ? S(0) : S(S(1) / sqrt(radicand));
    if (norm.rstd != nullptr) norm.rstd[t] = rstd;
    if (Centred && norm.mean != nullptr) norm.mean[t] = mean;
    for (Index c = 0; c < x.channels; ++c) {
      const S normalized = S(at(x, t, c) - mean) * rstd;
      at(y, t, c) = norm.shift == nullptr ? S(normalized * norm.factor(c))
                                          : S(normalized * norm.factor(c) + norm.shift[c]);
    }
  }
}

/// sum = α·residual + s∘update; sum may be either. A null residual is none.
template <class S>
void add(const TokenView<const S>& residual, const TokenView<const S>& update, const S& alpha,
         const Factors<S>& factors, const TokenView<S>& sum, Index begin, Index end) {
  for (Index t = begin; t < end; ++t) {
    const S of_token = factors.of_token(t);
    for (Index c = 0; c < sum.channels; ++c) {
      S scaled = S(of_token * at(update, t, c));
      if (factors.channels != nullptr) scaled *= factors.channels[c];
      if (residual.data != nullptr) scaled += S(alpha * at(residual, t, c));
      at(sum, t, c) = scaled;
    }
  }
}

/// dx = dsum + the gradient through the norm; adds to dγ and dβ. A null dsum is zero.
template <bool Centred, class S>
void backward(const TokenView<const S>& x, const TokenView<const S>& dy,
              const TokenView<const S>& dsum, const TokenView<S>& dx,
              const NormArguments<Centred, S, const S>& norm, S* scale_gradient,
              S* shift_gradient) {
  for (Index t = 0; t < x.tokens; ++t) {
    const Index n = norm.count(x.channels);
    const S count = static_cast<S>(static_cast<double>(n));
    const S rstd = norm.rstd[t];
    S mean(0);
    if constexpr (Centred) mean = norm.mean[t];
    S mean_g(0), mean_gx(0);
    for (Index c = 0; c < x.channels; ++c) {
      const S g = at(dy, t, c) * norm.factor(c);
      mean_g += g;
      mean_gx += S(g * S(S(at(x, t, c) - mean) * rstd));
    }
    mean_g = Centred ? S(mean_g / count) : S(0);
    mean_gx = mean_gx / count;
    for (Index c = 0; c < x.channels; ++c) {
      const S normalized = S(at(x, t, c) - mean) * rstd;
      const S out = at(dy, t, c);
      S inner = S(out * norm.factor(c)) - mean_g;
      if (c < n) inner -= S(normalized * mean_gx);
      S result = rstd * inner;
      if (dsum.data != nullptr) result += at(dsum, t, c);
      at(dx, t, c) = result;
      if (scale_gradient != nullptr) scale_gradient[c] += S(out * normalized);
      if (shift_gradient != nullptr) shift_gradient[c] += out;
    }
  }
}

}  // namespace tokennorm::kernels::generic
