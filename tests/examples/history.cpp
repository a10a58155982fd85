// SPDX-License-Identifier: MIT
#include "02_train_gpt/history.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace gpt::test {
namespace {

TEST(Recorder, AveragesEachRowAndEachLayer) {
  Recorder recorder(/*steps=*/25, /*tokens_per_step=*/8);  // two rows: steps 1 to 13, 14 to 25
  for (Index step = 1; step <= 25; ++step) {
    const auto number = static_cast<double>(step);
    recorder.add_step(number, 1 / number, {{"blocks.0", 3 * number}, {"head", 4 * number}});
    EXPECT_EQ(recorder.row_is_due(), step == 13 || step == 25) << "step " << step;
    if (recorder.row_is_due()) recorder.end_row(100 + number);
    const Progress progress = recorder.progress();
    EXPECT_EQ(progress.step, step);
    EXPECT_EQ(progress.steps, 25);
    EXPECT_EQ(std::isnan(progress.validation_loss), step < 13);
    EXPECT_GT(progress.tokens_per_second, 0);
  }
  EXPECT_EQ(recorder.progress().seconds_left, 0);

  const History history = recorder.finish();
  ASSERT_EQ(history.curve.size(), 2U);
  EXPECT_EQ(history.curve[0].step, 13);
  EXPECT_DOUBLE_EQ(history.curve[0].training_loss, 7);  // the mean of 1 … 13
  EXPECT_DOUBLE_EQ(history.curve[0].gradient_norm, 35);
  EXPECT_DOUBLE_EQ(history.curve[0].validation_loss, 113);
  EXPECT_DOUBLE_EQ(history.curve[0].learning_rate, 1.0 / 13);
  EXPECT_DOUBLE_EQ(history.curve[1].training_loss, 19.5);  // of 14 … 25
  ASSERT_EQ(history.gradient_norms.size(), 2U);
  EXPECT_EQ(history.gradient_norms[0].layer, "blocks.0");
  EXPECT_DOUBLE_EQ(history.gradient_norms[0].first_step, 3);
  EXPECT_DOUBLE_EQ(history.gradient_norms[1].mean, 52);  // 4·13
}

}  // namespace
}  // namespace gpt::test
