// SPDX-License-Identifier: MIT
/// What is checked of the readers of norms before any of them is written: that they are linear maps
/// of the norm's channels, with a bias where the norm has a shift, that their memory is not used
/// twice, and that what will be written fits.
///
/// Throws   std::invalid_argument that names the reader
#pragma once

#include "tokennorm/checkpoint/folded_values.hpp"
#include "tokennorm/checkpoint/linear_map.hpp"
#include "tokennorm/core/checks.hpp"
#include "tokennorm/core/internals.hpp"
#include "tokennorm/core/token_view.hpp"

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::detail {

template <class Norm>
bool has_parameters(const Norm& norm) {
  return norm.options().scale || norm.options().shift;
}

/// Checks readers before any of them is written.
class ReaderChecks {
 public:
  explicit ReaderChecks(Who who) : who_(who) {}

  /// `where` is "blocks.3.attention", or empty.
  template <class Norm, class Reader>
  void add(const Norm& norm, const std::string& where, std::size_t number, const Reader& reader) {
    if constexpr (check_linear_map<Reader>()) {
      const std::string name =
          (where.empty() ? "" : where + ": ") + "reader " + std::to_string(number);
      check_shape(name, inputs_of(reader), norm.channels(), outputs_of(reader), bias_size(reader),
                  norm.options().shift);
      Internals::check_parameters(norm);
      if (!has_parameters(norm)) return;  // it will not be written
      auto& writable = const_cast<Reader&>(reader);
      see({name, Footprint(view_of(writable.weight))});
      if constexpr (has_bias<Reader>) {
        if (norm.options().shift) see({name, Footprint(view_of(writable.bias))});
      }
      fold_into(norm, writable, CheckFits{who_, name});
    }
  }

  /// One whose weights will be centred, not folded into.
  template <class Norm, class Reader>
  void add_centred(const Norm& norm, std::size_t number, const Reader& reader) {
    if constexpr (check_linear_map<Reader>()) {
      add(norm, "", number, reader);
      const std::string name = "reader " + std::to_string(number);
      auto& writable = const_cast<Reader&>(reader);
      see({name, Footprint(view_of(writable.weight))});
      center_lines</*of_outputs=*/true>(writable, CheckFits{who_, name});
    }
  }

  /// One that must stay as it is while writers change.
  template <class Reader>
  void add_unchanged(const std::string& where, std::size_t number, Reader& reader) {
    if constexpr (check_linear_map<Reader>()) {
      const std::string name = where + ": reader " + std::to_string(number);
      readers_.push_back({name, Footprint(view_of(reader.weight))});
      if constexpr (has_bias<Reader>) readers_.push_back({name, Footprint(view_of(reader.bias))});
    }
  }

  /// A linear map that writes the output.
  template <class Writer>
  void add_writer(Writer& writer) {
    if constexpr (check_linear_map<Writer>()) {
      writers_.push_back(Footprint(view_of(writer.weight)));
      if constexpr (has_bias<Writer>) writers_.push_back(Footprint(view_of(writer.bias)));
    }
  }

  /// After the last of all: no reader may be a writer too.
  [[gnu::noinline]] void end() const {
    for (const Seen& reader : readers_) {
      for (const Footprint& writer : writers_) {
        if (!share_memory(reader.memory, writer)) continue;
        fail(who_, {reader.name.c_str(),
                    " shares memory with a writer, and one would change along with the other; give "
                    "the reader a matrix of its own"});
      }
    }
  }

  /// After the last reader of a norm.
  template <class Norm>
  void end_of_readers(const Norm& norm, const std::string& where, std::size_t readers) const {
    if (readers == 0 && has_parameters(norm)) {
      fail(who_, {where.c_str(),
                  ": it names no reader of its input; expected all linear maps that "
                  "the parameters of its norm are to be folded into"});
    }
  }

 private:
  [[gnu::noinline]] void check_shape(const std::string& name, Index inputs, Index channels,
                                     Index outputs, Index bias, bool shift) const {
    if (inputs != channels) {
      fail(who_, {name.c_str(), " has ", inputs, " inputs and ", outputs, " outputs; expected the ",
                  channels,
                  " channels of the norm as inputs (OutIn is W (outputs, inputs), InOut "
                  "is W (inputs, outputs))"});
    }
    if (bias != 0 && bias != outputs) {
      fail(who_, {name.c_str(), "'s bias has ", bias, " values; expected one for each of the ",
                  outputs, " outputs, or none"});
    }
    if (shift && bias == 0) {
      fail(who_, {name.c_str(),
                  " has no bias, and the norm's shift has nowhere to go; give it a "
                  "bias of ",
                  outputs, " zeros"});
    }
  }

  struct Seen {
    std::string name;
    Footprint memory;
  };

  [[gnu::noinline]] void see(Seen reader) {
    for (const Seen& other : readers_) {
      if (share_memory(reader.memory, other.memory)) {
        fail(who_, {reader.name.c_str(),
                    " shares memory with another reader, and would change twice; give each reader "
                    "once, of one norm"});
      }
    }
    readers_.push_back(std::move(reader));
  }

  Who who_;
  std::vector<Seen> readers_;
  std::vector<Footprint> writers_;
};

/// Whether the first argument of a call is a norm, and the rest are linear maps; else says why not.
template <class Norm, class... Readers>
constexpr bool check_arguments() {
  constexpr bool is_norm_type = requires(const Norm& norm) { norm.kind(); };
  static_assert(is_norm_type,
                "tokennorm: the norm comes first, then the linear maps that read its result: "
                "fold_norm(norm, OutIn{weight, bias}), center_reader(norm, OutIn{weight}).");
  if constexpr (is_norm_type) {
    return (check_linear_map<std::remove_cvref_t<Readers>>() && ...);
  } else {
    return false;
  }
}

}  // namespace tokennorm::detail
