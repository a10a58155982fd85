// SPDX-License-Identifier: MIT
/// γ and β of one norm out of a file: under which names they are there, whether they fit, and their
/// values, each rounded once. The norm itself is not changed.
///
/// Throws   std::runtime_error that says what was found and what was looked for
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/rounding.hpp"
#include "tokennorm/core/internals.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace tokennorm {

namespace detail {

/// The keys of a norm's parameters in a file, empty where there is none.
struct FoundParameters {
  std::string scale, shift;
  bool foreign = false;
  bool two_namings = false;

  bool any() const { return !scale.empty() || !shift.empty() || foreign; }
};

template <class File>
FoundParameters find_parameters(const File& file, const std::string& prefix) {
  FoundParameters found;
  const auto look = [&](const std::string& key, std::string& at) {
    if (key == at || !file.contains(key)) return;  // "b" is in two namings
    found.two_namings = found.two_namings || !at.empty();
    at = key;
  };
  const auto each_naming = [&](const auto& f) {
    for (const std::string_view suffix : {std::string_view(), variable_suffix}) {
      for (const ParameterNames& names : parameter_names) {
        f(parameter_key(prefix, names.scale).append(suffix),
          parameter_key(prefix, names.shift).append(suffix));
      }
    }
  };
  each_naming([&](const std::string& scale, const std::string& shift) {
    look(scale, found.scale);
    look(shift, found.shift);
  });
  bool paired = found.scale.empty() || found.shift.empty();
  each_naming([&](const std::string& scale, const std::string& shift) {
    paired = paired || (found.scale == scale && found.shift == shift);
  });
  found.two_namings = found.two_namings || !paired;
  found.foreign = file.contains(parameter_key(prefix, foreign_scale));
  return found;
}

/// Which of these, under which the file has a norm of this key, is meant.
inline std::string chosen_prefix(const std::string& key, const std::vector<std::string>& found) {
  if (found.empty() || std::find(found.begin(), found.end(), key) != found.end()) return key;
  if (found.size() > 1) {
    fail_in_file({"load_norm"}, "nothing is called " + key + ", but there are " + found[0] +
                                    " and " + found[1] + "; name one of them");
  }
  return found.front();
}

/// The prefix under which the norm is in the file: this one, or else with other optional prefixes.
template <class File>
std::string locate_norm(const File& file, const std::string& prefix) {
  if (find_parameters(file, prefix).any()) return prefix;
  const std::string_view bare = without_optional_prefixes(prefix);
  std::vector<std::string> found;
  for (const auto& name : file.names()) {
    const NormName parts(name);
    if (without_optional_prefixes(parts.norm) != bare) continue;
    if (std::find(found.begin(), found.end(), parts.norm) != found.end()) continue;
    if (find_parameters(file, std::string(parts.norm)).any()) found.emplace_back(parts.norm);
    if (found.size() == 2) break;
  }
  return chosen_prefix(prefix, found);
}

/// "model-00001-of-00002.safetensors: ", where the source says which file has the tensor.
template <class File>
[[gnu::cold]] std::string file_of(const File& file, const std::string& name) {
  if constexpr (requires { std::string(file.file_name(name)); }) {
    return std::string(file.file_name(name)) + ": ";
  } else {
    return "";
  }
}

/// What a norm's parameters are called, and why they could not be had from the file.
template <class Norm, class File>
[[noreturn, gnu::cold, gnu::noinline]] void fail_load(const Norm& norm, const File& file,
                                                      const std::string& prefix,
                                                      const std::string& reason) {
  std::string found, in_file;
  for (const auto& name : file.names()) {
    const std::string_view view(name);
    if (!view.starts_with(prefix) || view.size() <= prefix.size()) continue;
    const char next = view[prefix.size()];
    if (!prefix.empty() && next != '.' && next != '/') continue;
    if (!found.empty()) found += ", ";
    if (found.size() > 300) {
      found += "…";
      break;
    }
    if (found.empty()) in_file = file_of(file, std::string(view));
    found += printable(view) + " " + shape_text(file.shape(std::string(view)));
  }
  const auto& options = norm.options();
  const std::string wanted = options.scale && options.shift ? "a scale and a shift"
                             : options.scale                ? "a scale and no shift"
                             : options.shift                ? "a shift and no scale"
                                                            : "neither scale nor shift";
  std::string namings;
  for (const ParameterNames& names : parameter_names) {
    namings += (namings.empty() ? "" : ", ");
    namings.append(names.scale).append("/").append(names.shift);
  }
  fail_in_file(Internals::who(norm),
               in_file + (prefix.empty() ? "" : prefix + ": ") + reason + "; found " +
                   (found.empty() ? "nothing under it" : found) + "; looked for " + wanted +
                   " of " + std::to_string(norm.channels()) + " values, called as in " + namings);
}

/// γ and β as the norm will have them; empty where they are switched off.
template <class Param>
struct LoadedParameters {
  Eigen::Matrix<Param, Eigen::Dynamic, 1> scale, shift;

  void move_to(auto& norm) {
    norm.scale().swap(scale);
    norm.shift().swap(shift);
  }
};

template <class Norm, class File>
LoadedParameters<typename Norm::ParamScalar> read_parameters(const Norm& norm, const File& file,
                                                             const std::string& prefix) {
  using Param = typename Norm::ParamScalar;
  const FoundParameters found = find_parameters(file, prefix);
  const auto fail_because = [&](const std::string& reason) {
    fail_load(norm, file, prefix, reason);
  };
  if (found.foreign) fail_because(foreign_reason);
  if (found.two_namings) fail_because("there are two namings at once");

  const auto check = [&](const std::string& what, const std::string& key, bool wanted) {
    if (wanted && key.empty()) fail_because("the " + what + " is missing");
    if (!wanted && !key.empty()) {
      fail_because("there is a " + what + ", and the norm has none (" + what + " = false)");
    }
    if (key.empty()) return;
    const auto shape = file.shape(key);
    const bool is_row =
        shape.size() > 0 &&
        std::all_of(shape.begin(), shape.end() - 1, [](const auto extent) { return extent == 1; });
    if (!is_row || static_cast<Index>(shape[shape.size() - 1]) != norm.channels()) {
      fail_because("the " + what + " is " + shape_text(shape) + "; expected [" +
                   std::to_string(norm.channels()) + "]");
    }
  };
  check("scale", found.scale, norm.options().scale);
  check("shift", found.shift, norm.options().shift);

  const auto read = [&](const std::string& key) -> typename Norm::Vector {
    if (key.empty()) return {};
    const auto values = file.template matrix<double>(key);
    typename Norm::Vector result(norm.channels());
    for (Index i = 0; i < result.size(); ++i) {
      result(i) = rounded_or<Param>(values(0, i), [&] {
        fail_in_file(Internals::who(norm), file_of(file, key) + "tensor " + in_quotes(key) +
                                               ": value " + std::to_string(i) + " is " +
                                               beyond_largest<Param>(values(0, i)));
      });
    }
    return result;
  };
  return {read(found.scale), read(found.shift)};
}

}  // namespace detail

}  // namespace tokennorm
