// SPDX-License-Identifier: MIT
// The tokenizer of llama2.c's format and the choice of the next token, against values by hand.
#include "common/tokenizer.hpp"

#include "checkpoint/files.hpp"
#include "common/sampling.hpp"
#include "support/message_of.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples::test {
namespace {

using tokennorm::test::TemporaryFolder;
using Ids = std::vector<int>;

std::string message_of(const auto& call) {
  return tokennorm::test::message_of<std::runtime_error>(call);
}

/// BOS, EOS and the bytes, then these, from 259 on, each of a lower score than the one before.
Tokenizer tokenizer_of(const std::vector<std::string>& texts) {
  std::vector<Tokenizer::Token> tokens{{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (int byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    tokens.push_back({std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", 0});
  }
  for (const std::string& text : texts) {
    tokens.push_back({text, -static_cast<float>(tokens.size())});
  }
  return Tokenizer(tokens);
}

TEST(Tokenizer, MergesTheBestNeighboursFirst) {
  //                                     259  260  261   262   263    264   265
  const auto tokenizer = tokenizer_of({" ", "a", "b", "ab", "ba", " ab", "aba"});
  EXPECT_EQ(tokenizer.encode(""), Ids{1});
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{1, 264}));
  EXPECT_EQ(tokenizer.encode("bab"), (Ids{1, 259, 261, 262})) << "ab is better than ba";
  EXPECT_EQ(tokenizer.encode("aba"), (Ids{1, 264, 260}))
      << "and not aba, which is worse than ' ab'";
  EXPECT_EQ(tokenizer.encode("abab"), (Ids{1, 264, 262}));
}

TEST(Tokenizer, WhatIsNoTokenBecomesItsBytes) {
  const auto tokenizer = tokenizer_of({" ", "a", "γ"});
  EXPECT_EQ(tokenizer.encode("γ"), (Ids{1, 259, 261}));
  EXPECT_EQ(tokenizer.encode("aβ"), (Ids{1, 259, 260, 0xCE + 3, 0xB2 + 3}));
  EXPECT_EQ(tokenizer.encode("😀"), (Ids{1, 259, 0xF0 + 3, 0x9F + 3, 0x98 + 3, 0x80 + 3}));
  EXPECT_EQ(tokenizer.encode("\xB2\xCE"), (Ids{1, 259, 0xB2 + 3, 0xCE + 3})) << "no UTF-8";
  EXPECT_EQ(tokenizer.encode(std::string("a\0a", 3)), (Ids{1, 259, 260, 3, 260}));
  const Tokenizer poor({{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}, {" ", 0}, {"a", 0}});
  EXPECT_EQ(poor.encode("a"), (Ids{1, 3, 4}));
  EXPECT_EQ(message_of([&] { poor.encode("aé"); }),
            "the tokenizer has no token for the byte <0xC3>");
}

TEST(Tokenizer, DecodesWhatItEncodes) {
  const auto tokenizer = tokenizer_of({" ", "a", "b", "ab", " ab"});
  for (const std::string text : {"ab ab", " a", "γ😀 b\n", "\xFF\xFE", "b"}) {
    const Ids ids = tokenizer.encode(text);
    std::string decoded;
    for (std::size_t i = 1; i < ids.size(); ++i) decoded += tokenizer.decode(ids[i - 1], ids[i]);
    EXPECT_EQ(decoded, text);
  }
  EXPECT_EQ(tokenizer.decode(1, 263), "ab") << "the space before the first word is no part of it";
  EXPECT_EQ(tokenizer.decode(260, 263), " ab");
  EXPECT_EQ(tokenizer.decode(260, 0x1B + 3), "") << "an escape would reach the terminal";
}

TEST(Tokenizer, OfBytesAlone) {
  const auto tokenizer = Tokenizer::of_bytes();
  EXPECT_EQ(tokenizer.encode("aγ"), (Ids{1, ' ' + 3, 'a' + 3, 0xCE + 3, 0xB3 + 3}));
  EXPECT_EQ(tokenizer.decode(1, ' ' + 3), "");
  EXPECT_EQ(tokenizer.decode(4, ' ' + 3), " ");
}

TEST(Tokenizer, ComesBackFromItsFile) {
  const TemporaryFolder folder;
  const auto tokenizer = tokenizer_of({" ", "a", "b", "ab"});
  tokenizer.write(folder / "tokenizer.bin");
  const auto again = Tokenizer::read(folder / "tokenizer.bin", 263);
  EXPECT_EQ(again.encode("abβ"), tokenizer.encode("abβ"));
  again.write(folder / "again.bin");
  const std::string bytes = tokennorm::test::read_bytes(folder / "tokenizer.bin");
  EXPECT_EQ(tokennorm::test::read_bytes(folder / "again.bin"), bytes);
  EXPECT_EQ(bytes.substr(0, 4), std::string("\x06\0\0\0", 4)) << "the longest";
  EXPECT_EQ(bytes.substr(4, 13), std::string("\0\0\0\0\x05\0\0\0<unk>", 13));
}

TEST(Tokenizer, BrokenFilesSayWhatIsWrong) {
  const TemporaryFolder folder;
  tokenizer_of({" ", "a"}).write(folder / "good.bin");
  const std::string good = tokennorm::test::read_bytes(folder / "good.bin");
  const auto expect = [&](std::string bytes, std::int64_t vocabulary, const std::string& words) {
    const auto path = folder.write("tokenizer.bin", bytes);
    EXPECT_EQ(message_of([&] { Tokenizer::read(path, vocabulary); }), path.string() + ": " + words);
  };
  const auto is_no = [](const std::string& count) {
    return "is no tokenizer of " + count + " tokens, which are the model's vocabulary";
  };
  expect("", 261, is_no("261"));
  expect(good.substr(0, 3), 261, is_no("261"));
  expect(good.substr(0, good.size() - 1), 261, is_no("261"));
  expect(good, 262, is_no("262"));
  expect(good, 260, "goes on behind 260 tokens, which are the model's vocabulary");
  expect(good + "x", 261, "goes on behind 261 tokens, which are the model's vocabulary");
  std::string bytes = good;
  bytes[8] = '\x70';  // the length of the first token
  expect(bytes, 261, is_no("261"));
  bytes[11] = '\xFF';  // now below 0
  expect(bytes, 261, is_no("261"));
  bytes = good;
  bytes[3] = '\x7F';  // the longest
  expect(bytes, 261, is_no("261"));
  EXPECT_EQ(message_of([&] { Tokenizer::read(folder / "missing", 261); }),
            (folder / "missing").string() + ": cannot be read");
}

TEST(Sample, TakesTheMostProbableAtTemperatureZero) {
  std::mt19937_64 rng(1), untouched(1);
  EXPECT_EQ(sample(Eigen::Vector4f(1, 3, 2, 3), 0, 0.9, rng), 1) << "the first of two";
  EXPECT_EQ(rng, untouched);
}

/// How often each id is drawn.
Eigen::Array4d shares(const Eigen::Vector4f& logits, double temperature, double top_p) {
  constexpr int draws = 100000;
  std::mt19937_64 rng(2);
  Eigen::Array4d counts = Eigen::Array4d::Zero();
  for (int i = 0; i < draws; ++i) counts(sample(logits, temperature, top_p, rng)) += 1.0 / draws;
  return counts;
}

TEST(Sample, DrawsFromTheSoftmax) {
  const Eigen::Vector4f logits(std::log(0.1F), std::log(0.4F), std::log(0.3F), std::log(0.2F));
  const auto expect = [&](double temperature, double top_p, const Eigen::Array4d& expected) {
    const Eigen::Array4d found = shares(logits, temperature, top_p);
    EXPECT_LE((found - expected).abs().maxCoeff(), 0.006)
        << "temperature " << temperature << ", top_p " << top_p << ": " << found.transpose();
    EXPECT_TRUE((found > 0).isApprox(expected > 0));
  };
  expect(1, 1, {0.1, 0.4, 0.3, 0.2});
  expect(0.5, 1, Eigen::Array4d(0.01, 0.16, 0.09, 0.04) / 0.3);
  expect(1, 0.85, Eigen::Array4d(0, 0.4, 0.3, 0.2) / 0.9);
  expect(1, 0.65, Eigen::Array4d(0, 0.4, 0.3, 0) / 0.7);
  expect(1, 0.3, {0, 1, 0, 0});
  expect(1, 0, {0, 1, 0, 0});
}

TEST(Sample, SurvivesLargeLogits) {
  std::mt19937_64 rng(3);
  EXPECT_EQ(sample(Eigen::Vector4f(1e38F, -1e38F, 0, 3e38F), 1e-3, 0.9, rng), 3);
}

}  // namespace
}  // namespace examples::test
