// SPDX-License-Identifier: MIT
/// What a forward pass leaves for its backward pass. It belongs to the object that ran it: a copy
/// of that object starts without.
#pragma once

#include <utility>

namespace tokennorm::detail {

template <class T>
class SavedForBackward {
 public:
  SavedForBackward() = default;
  SavedForBackward(const SavedForBackward&) {}
  SavedForBackward(SavedForBackward&& other) noexcept : value_(std::move(other.value_)) {
    other.value_ = T{};
  }
  SavedForBackward& operator=(const SavedForBackward& other) {
    if (this != &other) value_ = T{};
    return *this;
  }
  SavedForBackward& operator=(SavedForBackward&& other) noexcept {
    if (this != &other) {
      value_ = std::move(other.value_);
      other.value_ = T{};
    }
    return *this;
  }
  T& operator*() { return value_; }
  T* operator->() { return &value_; }

 private:
  T value_{};
};

}  // namespace tokennorm::detail
