// SPDX-License-Identifier: MIT
// A Llama of example 02, written as example 05 reads it, says the same there.
#include "02_train_gpt/llama_file.hpp"

#include "05_run_llama/model.hpp"
#include "checkpoint/files.hpp"
#include "gradient_check.hpp"

#include <gtest/gtest.h>

#include <random>
#include <span>
#include <vector>

namespace gpt::test {
namespace {

TEST(LlamaFile, SaysTheSameWhereItIsRun) {
  const tokennorm::test::TemporaryFolder folder;
  const Shape shape{.vocabulary = 259, .context = 9, .layers = 2, .channels = 24, .heads = 3};
  std::mt19937_64 rng(1);
  Llama trained(shape, rng);
  shake(trained, Seed{600}, 0.1);
  save_llama(folder / "llama.bin", trained, shape.heads);

  const auto model = examples::read_llama2c<llama::Llama>(folder / "llama.bin");
  EXPECT_EQ(model.config().heads, 3);
  EXPECT_EQ(model.config().hidden, 64);
  const auto tokenizer = examples::Tokenizer::read(folder / "tokenizer.bin", 259);
  const std::vector<int> ids = tokenizer.encode("a γ \n\xFF");
  ASSERT_EQ(ids.size(), 9U);
  const TokenMatrix<float> expected = trained(ids);

  Eigen::ThreadPool pool(1);
  const auto one = tokennorm::thread_pool(pool);
  llama::Session session(model.config());
  for (Index t = 0; t < expected.rows(); ++t) {
    const auto& logits =
        model(std::span(ids).subspan(static_cast<std::size_t>(t), 1), session, one);
    EXPECT_LE((logits - expected.row(t)).cwiseAbs().maxCoeff(), 1e-5F) << t;
  }
}

}  // namespace
}  // namespace gpt::test
