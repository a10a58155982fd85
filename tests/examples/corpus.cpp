// SPDX-License-Identifier: MIT
// From files to excerpts, and the bigram model that the GPT is measured against.
#include "02_train_gpt/corpus.hpp"

#include "02_train_gpt/bigram.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>

namespace gpt::test {
namespace {

using namespace std::string_literals;

TEST(Utf8, OneNumberPerCharacter) {
  EXPECT_EQ(from_utf8("aγ√𝔼"), U"aγ√𝔼");
  EXPECT_EQ(to_utf8(U"aγ√𝔼\n"), "aγ√𝔼\n");
  EXPECT_EQ(from_utf8(""), U"");
}

TEST(Utf8, AnyBytesComeBack) {
  std::string bytes;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; second += 3) {
      bytes += static_cast<char>(first);
      bytes += static_cast<char>(second);
    }
  }
  EXPECT_EQ(to_utf8(from_utf8(bytes)), bytes);
  // Overlong, a surrogate, above U+10FFFF, cut off: no character, byte by byte.
  for (const auto& invalid : {"\xC0\x80"s, "\xE0\x80\x80"s, "\xED\xA0\x80"s, "\xF0\x80\x80\x80"s,
                              "\xF4\x90\x80\x80"s, "\xE2\x88"s, "\x80"s, "\xFF"s}) {
    EXPECT_EQ(from_utf8(invalid).size(), invalid.size());
    EXPECT_EQ(to_utf8(from_utf8(invalid)), invalid);
  }
}

TEST(Vocabulary, NumbersTheCharactersInOrder) {
  const Vocabulary vocabulary(U"banana γ");
  EXPECT_EQ(vocabulary.size(), 5);  // space, a, b, n, γ
  EXPECT_EQ(vocabulary.encode(U"banγ"), (std::vector{2, 1, 3, 4}));
  EXPECT_EQ(vocabulary.decode(std::vector{4, 0, 1}), "γ a");
  EXPECT_TRUE(vocabulary.contains(U'γ'));
  EXPECT_FALSE(vocabulary.contains(U'c'));
}

TEST(Corpus, HoldsOutTheEndOfEachText) {
  const Corpus corpus = make_corpus({U"abcdefghij", U"ABCDEFGHIJKLMNOPQRST"}, 0.2);
  EXPECT_EQ(corpus.vocabulary.decode(corpus.training), "abcdefghABCDEFGHIJKLMNOP");
  EXPECT_EQ(corpus.vocabulary.decode(corpus.validation), "ijQRST");
}

TEST(Corpus, ReadsFilesAndRefusesBadOnes) {
  const std::filesystem::path directory =
      std::filesystem::path(::testing::TempDir()) / "tokennorm_corpus_test";
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "text") << "γ and β and more";
  std::ofstream(directory / "empty").close();
  const Corpus corpus = read_corpus({directory / "text", directory / "empty"});
  EXPECT_EQ(corpus.training.size() + corpus.validation.size(), 16U);

  EXPECT_THROW(read_corpus({directory / "missing"}), std::runtime_error);
  EXPECT_THROW(read_corpus({directory / "empty"}), std::runtime_error);
  EXPECT_THROW(read_corpus({directory}), std::runtime_error);
  std::filesystem::remove_all(directory);
}

TEST(Corpus, OfBytesHasTheIdsOfTheTokenizer) {
  const std::string bytes = "aγ\xFF\n";
  const Corpus corpus = make_corpus({from_bytes(bytes)}, 0, byte_characters());
  EXPECT_EQ(corpus.vocabulary.size(), 259);
  EXPECT_EQ(corpus.training, (std::vector{1, 'a' + 3, 0xCE + 3, 0xB3 + 3, 0xFF + 3, '\n' + 3}));
  EXPECT_EQ(corpus.vocabulary.decode(std::span(corpus.training).subspan(1)), bytes);
}

TEST(Corpus, MustHoldOneSequenceAndOneCharacterMore) {
  const Corpus corpus = make_corpus({std::u32string(100, U'x')});
  EXPECT_NO_THROW(require_length(corpus, 9));
  EXPECT_THROW(require_length(corpus, 10), std::runtime_error);
}

TEST(Excerpts, TargetsAreTheNextCharacters) {
  std::vector<int> text(50);
  for (int i = 0; i < 50; ++i) text[static_cast<std::size_t>(i)] = i;
  std::mt19937_64 rng(1);
  std::set<int> starts;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Excerpts excerpts = random_excerpts(text, 3, 5, rng);
    ASSERT_EQ(excerpts.inputs.size(), 15U);
    ASSERT_EQ(excerpts.targets.size(), 15U);
    for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(excerpts.targets[i], excerpts.inputs[i] + 1);
    for (std::size_t i = 0; i < 15; i += 5) {
      EXPECT_EQ(excerpts.inputs[i + 4], excerpts.inputs[i] + 4);
      starts.insert(excerpts.inputs[i]);
    }
  }
  EXPECT_EQ(*starts.begin(), 0);
  EXPECT_EQ(*starts.rbegin(), 44);  // 44 … 48, and 49 the last target
  EXPECT_EQ(starts.size(), 45U);
}

TEST(Excerpts, ValidationSequencesDoNotOverlap) {
  const std::vector<int> text(52);
  EXPECT_EQ(sequence_starts(text, 10, 100), (std::vector<Index>{0, 10, 20, 30, 40}));
  EXPECT_EQ(sequence_starts(text, 10, 2), (std::vector<Index>{0, 20}));
  EXPECT_EQ(sequence_starts(std::span(text).first(11), 10, 100), (std::vector<Index>{0}));
}

TEST(Bigram, LossByHand) {
  // Training text a b a b a a: after a: b twice, a once; after b: a twice. Two characters, δ = ½.
  const std::vector<int> training = {0, 1, 0, 1, 0, 0};
  const Bigram bigram(training, 2, 0.5);
  EXPECT_DOUBLE_EQ(bigram.probability(0, 0), 1.5 / 4);
  EXPECT_DOUBLE_EQ(bigram.probability(0, 1), 2.5 / 4);
  EXPECT_DOUBLE_EQ(bigram.probability(1, 0), 2.5 / 3);
  EXPECT_DOUBLE_EQ(bigram.probability(1, 1), 0.5 / 3);  // never seen
  // Validation text b b a b: −(log p(b|b) + log p(a|b) + log p(b|a)) / 3.
  const double expected = -(std::log(0.5 / 3) + std::log(2.5 / 3) + std::log(2.5 / 4)) / 3;
  EXPECT_DOUBLE_EQ(bigram.loss(std::vector{1, 1, 0, 1}), expected);
}

}  // namespace
}  // namespace gpt::test
