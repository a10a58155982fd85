// SPDX-License-Identifier: MIT
/// How blocks visit the parameters of their parts: under the names of their places, and each part
/// once.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::detail {

/// What was visited: by address and type, as an object begins where its first member does.
class Visited {
 public:
  template <class Visitable>
  bool is_first_visit(const Visitable& visitable) {
    const Object object{&visitable, &type<Visitable>};
    if (std::find(objects_.begin(), objects_.end(), object) != objects_.end()) return false;
    objects_.push_back(object);
    return true;
  }

 private:
  using Object = std::pair<const void*, const char*>;
  template <class Visitable>
  static inline const char type = 0;
  std::vector<Object> objects_;
};

struct WithVisited {
  Visited& visited;
};

/// A visitor for what has parameters of its own: it puts "prefix." before their names, and takes
/// along what was visited. The user's visitor gets lvalues.
template <class Visitor>
struct PrefixingVisitor : WithVisited {
  std::string prefix;
  Visitor& visitor;

  template <class Value, class Gradient>
  void operator()(const std::string& name, Value&& value, Gradient&& gradient) const {
    const std::string full = prefix + "." + name;
    visitor(full, value, gradient);
  }
};

/// Visits parts under names of their own, and each of them once: one that is shared by std::ref
/// under the first of its names, also where it is in several blocks of a stack.
template <class Visitor>
class PartsVisitor {
 public:
  explicit PartsVisitor(Visitor& visitor) : visitor_(visitor) {}

  template <class Part>
  void operator()(const std::string& name, Part& part) {
    const PrefixingVisitor<Visitor> prefixing{{visited()}, name, visitor_};
    if constexpr (requires { part.visit_parameters(prefixing); }) {
      if (visited().is_first_visit(part)) part.visit_parameters(prefixing);
    }
  }

 private:
  Visited& visited() {
    if constexpr (std::is_base_of_v<WithVisited, Visitor>) {
      return visitor_.visited;
    } else {
      return own_visited_;
    }
  }

  Visitor& visitor_;
  Visited own_visited_;
};

template <class Visitable>
void zero_gradients_of(Visitable& visitable) {
  if constexpr (requires { visitable.zero_gradients(); }) visitable.zero_gradients();
}

}  // namespace tokennorm::detail
