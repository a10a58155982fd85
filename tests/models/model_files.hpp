// SPDX-License-Identifier: MIT
// Trained models that others published, and what they compute. They are looked for in
// $TOKENNORM_MODELS or beside the source tree; without them the tests are skipped.
#pragma once

#include <tokennorm/core/concepts.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>

namespace tokennorm::test {

inline std::filesystem::path models_folder() {
  const char* const given = std::getenv("TOKENNORM_MODELS");
  return given != nullptr ? given : TOKENNORM_MODELS;
}

/// The tests of one model, which has this folder.
class ModelTest : public ::testing::Test {
 protected:
  /// Of float32, in which others computed what is compared with.
  static constexpr double tolerance = 2e-5;

  explicit ModelTest(const char* model) : folder(models_folder() / model) {}
  void SetUp() override {
    if (!std::filesystem::is_directory(folder)) {
      GTEST_SKIP() << "no model in " << folder << "; TOKENNORM_MODELS names the folder of models";
    }
  }
  void TearDown() override {
    if (largest_distance_ == 0) return;
    std::ostringstream text;
    text << largest_distance_;
    RecordProperty("largest_distance", text.str());
  }

  template <class Found, class Expected>
  void expect_near(const std::string& what, const Found& found, const Expected& expected) {
    ASSERT_EQ(found.rows(), expected.rows()) << what;
    ASSERT_EQ(found.cols(), expected.cols()) << what;
    const TokenMatrix<double> there = expected.template cast<double>();
    EXPECT_GT(there.cwiseAbs().maxCoeff(), 0.1) << what;
    const double distance =
        (found.template cast<double>() - there).cwiseAbs().template maxCoeff<Eigen::PropagateNaN>();
    EXPECT_LE(distance, tolerance) << what;
    largest_distance_ = std::max(largest_distance_, distance);
  }

  const std::filesystem::path folder;

 private:
  double largest_distance_ = 0;
};

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("the test cannot read " + path.string());
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(file_text(path));
}

/// Numbers in float32, little-endian, as tokens of so many channels.
inline TokenMatrix<float> floats_of(const std::string& bytes, Index channels) {
  const auto count = static_cast<Index>(bytes.size() / sizeof(float));
  TokenMatrix<float> result(count / channels, channels);
  EXPECT_EQ(static_cast<Index>(bytes.size()), result.size() * Index{sizeof(float)});
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

}  // namespace tokennorm::test
