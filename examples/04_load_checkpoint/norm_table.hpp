// SPDX-License-Identifier: MIT
/// One line for each norm of a checkpoint: what it is called, what kind it is, and what is in it.
///
///     key       kind        epsilon  channels    scale: min        max       mean    shift: min …
///     h.0.ln_1  LayerNorm     1e-05       128        0.7193      1.244      1.018       -0.1951 …
///
/// The scale is γ as the file has it, without the family's scale offset.
#pragma once

#include <tokennorm/checkpoint/names.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace load_checkpoint {

using tokennorm::Family;
using tokennorm::NormInFile;
using tokennorm::NormKind;

/// "LayerNorm", "Pre-LN", as the README writes them.
const char* name_of(NormKind kind);
const char* name_of(tokennorm::Placement placement);

/// Every norm under the family's names, loaded as the norm that it is; of those inside sublayers,
/// whose γ may be one for each head, only where they are.
/// Throws std::runtime_error where there is none, or where one has other parameters.
template <class File>
std::string norm_table(const File& file, const Family& family);

// ---------------------------------------------------------------------------------------------

inline const char* name_of(NormKind kind) {
  return kind == NormKind::layer_norm ? "LayerNorm" : "RMSNorm";
}

inline const char* name_of(tokennorm::Placement placement) {
  switch (placement) {
    case tokennorm::Placement::pre_ln:
      return "Pre-LN";
    case tokennorm::Placement::post_ln:
      return "Post-LN";
    case tokennorm::Placement::sandwich_ln:
      return "Sandwich-LN";
    case tokennorm::Placement::residual_post_norm:
      return "residual-post-norm";
    case tokennorm::Placement::parallel:
      return "parallel with one norm";
    case tokennorm::Placement::parallel_two_norms:
      return "parallel with two norms";
    default:
      return "of a rule that no block here has";
  }
}

namespace detail {

template <class... Values>
std::string format(const char* pattern, const Values&... values) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

inline std::string range_text(const Eigen::VectorXf& values) {
  if (values.size() == 0) return "";
  return format("  %12.4g %10.4g %10.4g", static_cast<double>(values.minCoeff()),
                static_cast<double>(values.maxCoeff()), static_cast<double>(values.mean()));
}

template <class Norm, class File>
std::string values_text(const File& file, const Family& family, const NormInFile& there) {
  Norm norm(there.channels, {.epsilon = family.epsilon, .scale_offset = family.scale_offset});
  tokennorm::load_norm(norm, file, there.prefix);
  return range_text(norm.scale()) + range_text(norm.shift());
}

}  // namespace detail

template <class File>
std::string norm_table(const File& file, const Family& family) {
  const std::vector<NormInFile> norms = tokennorm::find_norms(file, family);
  if (norms.empty()) {
    throw std::runtime_error("the file has no norm under the names of " + std::string(family.name));
  }
  const bool is_layer_norm = family.norm == NormKind::layer_norm;
  std::size_t width = 0;
  for (const NormInFile& norm : norms) width = std::max(width, norm.prefix.size());
  const auto key_column = [&](std::string key) {
    key.resize(width, ' ');
    return key;
  };

  std::string table =
      key_column("key") + detail::format("  %-9s  %8s  %8s  %12s %10s %10s", "kind", "epsilon",
                                         "channels", "scale: min", "max", "mean");
  if (is_layer_norm) table += detail::format("  %12s %10s %10s", "shift: min", "max", "mean");
  for (const NormInFile& norm : norms) {
    if (tokennorm::is_inside_sublayer(norm.role)) {
      table += "\n" + key_column(norm.prefix) + "  inside a sublayer";
      continue;
    }
    table += "\n" + key_column(norm.prefix) +
             detail::format("  %-9s  %8.3g  %8ld", name_of(family.norm), family.epsilon,
                            static_cast<long>(norm.channels));
    table += is_layer_norm ? detail::values_text<tokennorm::LayerNorm<float>>(file, family, norm)
                           : detail::values_text<tokennorm::RMSNorm<float>>(file, family, norm);
  }
  return table + "\n";
}

}  // namespace load_checkpoint
