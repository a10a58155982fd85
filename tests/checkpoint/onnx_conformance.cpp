// SPDX-License-Identifier: MIT
// The node tests that ONNX publishes for LayerNormalization (opset 17) and RMSNormalization
// (opset 23), as safetensors files: x, scale, bias, y, and LayerNormalization's mean and
// inv_std_dev; op, axis and epsilon as metadata. They are looked for in $TOKENNORM_ONNX_CONFORMANCE
// or beside the source tree.
//
// The expected values are numpy's in float32, with errors of their own; γ and β are applied in
// float32 by both sides. With u = 2⁻²⁴, and twice our own bound of 4 units for the two of them:
//
//   y             8·u·(|γ|·max(1, max|x̂|) + |β|)
//   mean          2·u·max|x|, where 120 values are summed at most
//   inv_std_dev   4·u relative
#include "../norm/norm_kinds.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

namespace tokennorm::test {
namespace {

std::filesystem::path vectors_folder() {
  const char* const given = std::getenv("TOKENNORM_ONNX_CONFORMANCE");
  return given != nullptr ? given : TOKENNORM_ONNX_CONFORMANCE;
}

using Rows = TokenMatrix<float>;

/// A tensor of the file as tokens of so many channels.
Rows tokens_of(const Safetensors& file, const char* name, Index channels) {
  const Rows values = file.matrix<float>(name);
  return tokens(values.data(), values.size() / channels, channels);
}

/// The largest error of each result, in units of its bound.
struct Worst {
  double y = 0, mean = 0, rstd = 0;
};

double largest_ratio(const ExactMatrix& found, const ExactMatrix& expected,
                     const ExactMatrix& bound) {
  EXPECT_EQ(found.rows(), expected.rows());
  EXPECT_EQ(found.cols(), expected.cols());
  return static_cast<double>(
      ((found - expected).array().abs() / bound.array()).maxCoeff<Eigen::PropagateNaN>());
}

template <class Kind>
void run_vector(const Safetensors& file, Worst& worst) {
  using C = Case<Kind, float>;
  const auto& metadata = file.metadata();
  const auto& shape = file.shape("x");
  Index axis = std::stol(metadata.at("axis"));
  if (axis < 0) axis += static_cast<Index>(shape.size());
  Index channels = 1;  // the token is everything from the axis on
  for (Index i = axis; i < static_cast<Index>(shape.size()); ++i)
    channels *= shape[static_cast<std::size_t>(i)];

  auto options = affine_options<Kind>(std::stod(metadata.at("epsilon")));
  options.shift = Kind::centred;
  typename C::Norm norm(channels, options);
  norm.scale() = tokens_of(file, "scale", channels).transpose();
  if (options.shift) norm.shift() = tokens_of(file, "bias", channels).transpose();
  const Rows x = tokens_of(file, "x", channels);
  Rows y;
  typename C::Statistics stats;
  norm.normalize(x, y, stats);

  constexpr long double u = 0x1p-24L;
  const ForwardOracle oracle = forward_oracle_of(norm, exact(x));
  ExactMatrix bound =
      oracle.largest.cwiseMax(1) * exact_vector(norm.scale()).cwiseAbs().transpose();
  if (options.shift) bound.rowwise() += exact_vector(norm.shift()).cwiseAbs().transpose();
  worst.y = std::max(worst.y,
                     largest_ratio(exact(y), exact(tokens_of(file, "y", channels)), 8 * u * bound));
  if constexpr (Kind::centred) {
    const ExactMatrix mean = exact(tokens_of(file, "mean", 1));
    const ExactMatrix rstd = exact(tokens_of(file, "inv_std_dev", 1));
    const ExactMatrix size = exact(x).cwiseAbs().rowwise().maxCoeff();
    worst.mean = std::max(worst.mean, largest_ratio(exact_vector(stats.mean), mean, 2 * u * size));
    worst.rstd = std::max(worst.rstd, largest_ratio(exact_vector(stats.rstd), rstd, 4 * u * rstd));
  }
}

TEST(OnnxConformance, EveryVectorPasses) {
  const auto folder = vectors_folder();
  if (!std::filesystem::is_directory(folder)) {
    GTEST_SKIP() << "no vectors in " << folder << "; TOKENNORM_ONNX_CONFORMANCE names their folder";
  }
  std::set<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.insert(entry.path());
  int layer = 0, rms = 0;
  Worst worst;
  for (const auto& path : paths) {
    SCOPED_TRACE(path);
    const auto file = Safetensors::open(path);
    Worst here;
    if (file.metadata().at("op") == "LayerNormalization") {
      run_vector<LayerKind>(file, here);
      ++layer;
    } else {
      ASSERT_EQ(file.metadata().at("op"), "RMSNormalization");
      run_vector<RMSKind>(file, here);
      ++rms;
    }
    EXPECT_LE(here.y, 1);
    EXPECT_LE(here.mean, 1);
    EXPECT_LE(here.rstd, 1);
    worst = {std::max(worst.y, here.y), std::max(worst.mean, here.mean),
             std::max(worst.rstd, here.rstd)};
  }
  EXPECT_EQ(layer, 19);
  EXPECT_EQ(rms, 19);
  std::printf(
      "%d vectors; the largest error as a share of its bound: y %.2f, mean %.2f, "
      "inv_std_dev %.2f\n",
      layer + rms, worst.y, worst.mean, worst.rstd);
}

}  // namespace
}  // namespace tokennorm::test
