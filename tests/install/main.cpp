// SPDX-License-Identifier: MIT
// A user's program of two units. It prints the version it was built with, and fails where a norm
// does not do what it should.
#include <tokennorm/tokennorm.hpp>

#ifdef _OPENMP
#include <tokennorm/adapters/openmp.hpp>
#endif
#if __has_include(<nlohmann/json.hpp>) && __has_include(<tokennorm/checkpoint/safetensors.hpp>)
#include <tokennorm/checkpoint/safetensors.hpp>
#define HAS_SAFETENSORS
#endif

#include <cmath>
#include <cstdio>

tokennorm::TokenMatrix<float> normalized_in_other_unit(const tokennorm::TokenMatrix<float>& x);

/// With the adapter where its target is linked.
tokennorm::TokenMatrix<float> normalized_on_threads(const tokennorm::TokenMatrix<float>& x) {
#ifdef _OPENMP
  return tokennorm::LayerNorm<float>(4)(x, tokennorm::openmp);
#else
  return tokennorm::LayerNorm<float>(4)(x);
#endif
}

/// As a file has them, where the component is there.
tokennorm::TokenMatrix<float> written_and_read(const tokennorm::TokenMatrix<float>& x) {
#ifdef HAS_SAFETENSORS
  tokennorm::SafetensorsWriter writer;
  writer.add("x", x);
  writer.save("install_test.safetensors");
  return tokennorm::Safetensors::open("install_test.safetensors").matrix<float>("x");
#else
  return x;
#endif
}

/// Where the program has its kernels compiled in.
bool right_in_bfloat16() {
#ifdef TOKENNORM_COMPILED_BFLOAT16
  tokennorm::TokenMatrix<Eigen::bfloat16> x(1, 2);
  x << Eigen::bfloat16(-3.0f), Eigen::bfloat16(7.0f);
  const auto y = tokennorm::LayerNorm<Eigen::bfloat16>(2)(x);
  return float(y(0, 0)) == -1 && float(y(0, 1)) == 1;
#else
  return true;
#endif
}

int main() {
  tokennorm::TokenMatrix<float> x(2, 4);
  x << 1, 2, 3, 4,  //
      -5, 0, 5, 10;
  const tokennorm::TokenMatrix<float> y = tokennorm::LayerNorm<float>(4)(x);
  const tokennorm::TokenMatrix<float> many = x.replicate(40000, 1);
  const bool right =
      y == normalized_in_other_unit(x) && normalized_on_threads(many) == y.replicate(40000, 1) &&
      written_and_read(x) == x && right_in_bfloat16() && std::abs(y.row(0).sum()) < 1e-6f &&
      std::abs(y.row(0).squaredNorm() - 4) < 1e-4f;
  std::printf("tokennorm %d.%d.%d: %s\n", TOKENNORM_VERSION_MAJOR, TOKENNORM_VERSION_MINOR,
              TOKENNORM_VERSION_PATCH, right ? "right" : "wrong");
  return right ? 0 : 1;
}
