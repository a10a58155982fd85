// SPDX-License-Identifier: MIT
/// The placements that the study compares. f is attention, then feed-forward, in each block.
///
///     Pre-LN       h = h + f(N(h))      final norm                  Xiong et al. 2020
///     Post-LN      h = N(h + f(h))      embedding norm              Vaswani et al. 2017
///     Sandwich-LN  h = h + N(f(N(h)))   final norm                  Ding et al. 2021, CogView
///     DeepNorm     h = N(α·h + f(h))    embedding norm              Wang et al. 2022, DeepNet
///     ResPostLN    h = h + N(f(h))      final norm                  Liu et al. 2021, Swin v2
///     Peri-LN      h = h + N(f(N(h)))   embedding and final norm    Kim et al. 2025
///
/// Part d adds BLOOM's: Pre-LN with an embedding norm (Le Scao et al. 2022). DeepNorm also shrinks
/// the first weights of values, output projection and feed-forward by β; α and β are
/// deep_norm_scales(0, L).decoder. All else is the same for all: every weight is drawn alike, and
/// nothing is scaled by 1/√(2L).
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace study {

enum class Placement {
  pre_ln,
  post_ln,
  sandwich_ln,
  deep_norm,
  res_post_ln,
  peri_ln,
  pre_ln_with_embedding_norm
};

/// The six of parts a, b and c.
inline constexpr std::array placements = {Placement::pre_ln,      Placement::post_ln,
                                          Placement::sandwich_ln, Placement::deep_norm,
                                          Placement::res_post_ln, Placement::peri_ln};

inline const char* name_of(Placement placement) {
  constexpr std::array names = {"Pre-LN",
                                "Post-LN",
                                "Sandwich-LN",
                                "DeepNorm",
                                "ResPostLN",
                                "Peri-LN",
                                "Pre-LN with embedding norm"};
  return names[static_cast<std::size_t>(placement)];
}

/// A header of CSV with a column for each of the six.
inline std::vector<std::string> header_of_placements(const char* first) {
  std::vector<std::string> names = {first};
  for (const Placement placement : placements) names.push_back(name_of(placement));
  return names;
}

}  // namespace study
