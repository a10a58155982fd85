// SPDX-License-Identifier: MIT
/// A tensor in a file: where it stands, what it is, and its values.
///
/// Values   F64, F32, F16 and BF16 are converted, rounded once to nearest even
/// Throws   std::runtime_error that names the file and the tensor: where its values are of another
///          dtype, or one that is finite is beyond the scalar that is asked for
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/rounding.hpp"
#include "tokennorm/core/concepts.hpp"
#include "tokennorm/core/scalar.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace tokennorm::detail {

static_assert(std::endian::native == std::endian::little,
              "tokennorm: checkpoints are little-endian, and are read and written by plain copies. "
              "On a big-endian machine convert the file elsewhere.");

/// A header of a file of tensors, or an index of several, is this long at most.
inline constexpr std::uint64_t largest_header = 100'000'000;

/// Where one tensor stands, and what it is.
struct TensorEntry {
  std::string dtype;
  std::vector<Index> shape;
  std::uint64_t begin = 0, end = 0;  ///< its bytes, counted from the first one of the file

  /// The leading dimensions are rows: (2, 3, 5) is 6 x 5, (5) is 1 x 5, () is 1 x 1.
  Index rows() const;
  Index columns() const { return shape.empty() ? 1 : shape.back(); }
};

inline Index TensorEntry::rows() const {
  Index rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

/// The product of the dimensions that are not 0; false where it is beyond those of Index. Of an
/// empty tensor too they must have a product: rows() is that of some of them.
inline bool multiply_dimensions(const std::vector<Index>& shape, Index& product) {
  product = 1;
  for (const Index dimension : shape) {
    if (dimension > 0 && __builtin_mul_overflow(product, dimension, &product)) return false;
  }
  return true;
}

template <class Scalar>
inline constexpr const char* dtype_of = nullptr;
template <>
inline constexpr const char* dtype_of<double> = "F64";
template <>
inline constexpr const char* dtype_of<float> = "F32";
template <>
inline constexpr const char* dtype_of<Eigen::half> = "F16";
template <>
inline constexpr const char* dtype_of<Eigen::bfloat16> = "BF16";

/// Calls f with a value of the scalar type that the dtype names; false where there is none.
template <class F>
bool with_scalar_of(std::string_view dtype, const F& f) {
  const auto if_named = [&](auto scalar) {
    if (dtype != dtype_of<decltype(scalar)>) return false;
    f(scalar);
    return true;
  };
  return if_named(double{}) || if_named(float{}) || if_named(Eigen::half{}) ||
         if_named(Eigen::bfloat16{});
}

/// The tensor's values, from a file of which `bytes` has read(begin, to, count).
template <class Scalar, class Bytes>
TokenMatrix<Scalar> read_tensor(const std::string& file, const Bytes& bytes, std::string_view name,
                                const TensorEntry& tensor) {
  TokenMatrix<Scalar> result;
  const bool known = with_scalar_of(tensor.dtype, [&](auto scalar) {
    using Stored = decltype(scalar);
    result.resize(tensor.rows(), tensor.columns());
    const auto count = static_cast<std::size_t>(result.size());
    if constexpr (std::is_same_v<Stored, Scalar>) {
      bytes.read(tensor.begin, static_cast<void*>(result.data()), count * sizeof(Scalar));
    } else {
      std::array<Stored, 65536 / sizeof(Stored)> some;  // the file's need not be aligned
      for (std::size_t first = 0; first < count; first += some.size()) {
        const std::size_t size = std::min(some.size(), count - first);
        bytes.read(tensor.begin + first * sizeof(Stored), static_cast<void*>(some.data()),
                   size * sizeof(Stored));
        for (std::size_t i = 0; i < size; ++i) {
          result.data()[first + i] = rounded_or<Scalar>(some[i], [&] {
            fail_tensor(
                file, name,
                "value " + std::to_string(first + i) + " is " + beyond_largest<Scalar>(some[i]));
          });
        }
      }
    }
  });
  if (!known) {
    fail_tensor(
        file, name,
        "dtype is " + printable(tensor.dtype) + "; only F64, F32, F16 and BF16 are converted");
  }
  return result;
}

}  // namespace tokennorm::detail
