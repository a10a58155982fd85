// SPDX-License-Identifier: MIT
/// What a forward pass leaves for its backward pass. It belongs to the object that ran it: a copy
/// of that object starts without.
#pragma once

#include <utility>

namespace tokennorm::detail {

template <class T>
class Remembered {
 public:
  Remembered() = default;
  Remembered(const Remembered&) {}
  Remembered(Remembered&& other) noexcept : value_(std::move(other.value_)) { other.value_ = T{}; }
  Remembered& operator=(const Remembered& other) {
    if (this != &other) value_ = T{};
    return *this;
  }
  Remembered& operator=(Remembered&& other) noexcept {
    if (this != &other) {
      value_ = std::move(other.value_);
      other.value_ = T{};
    }
    return *this;
  }
  T* operator->() { return &value_; }

 private:
  T value_{};
};

}  // namespace tokennorm::detail
