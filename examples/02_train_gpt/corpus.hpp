// SPDX-License-Identifier: MIT
/// From files to excerpts of character numbers.
///
/// A character is a Unicode code point, so that γ is one character and not two bytes. The
/// vocabulary is every character that occurs. A Llama reads bytes instead, with the ids of
/// llama2.c's tokenizers: 0 to 2 for <unk>, <s> and </s>, then the bytes from 3 on. The last tenth
/// of each file is held out for validation: a few long unseen stretches of every kind of text in
/// the corpus.
#pragma once

#include "parameters.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

/// The characters of UTF-8 text. A byte that is not part of valid UTF-8 becomes U+DC00 + byte,
/// which no valid text contains, so that to_utf8 gives back every file exactly.
std::u32string from_utf8(std::string_view bytes);
std::string to_utf8(std::u32string_view characters);

/// The distinct characters of a text, numbered in order from 0.
class Vocabulary {
 public:
  explicit Vocabulary(std::u32string characters);

  Index size() const { return static_cast<Index>(characters_.size()); }
  const std::u32string& characters() const { return characters_; }  // by number
  bool contains(char32_t character) const;
  int number(char32_t character) const;  // of a character that it contains
  std::vector<int> encode(std::u32string_view text) const;
  std::string decode(std::span<const int> numbers) const;

 private:
  std::u32string characters_;
};

/// A text in numbers, split for training and validation.
struct Corpus {
  Vocabulary vocabulary;
  std::vector<int> training;
  std::vector<int> validation;
};

/// The last `validation_share` of each text is held out. The vocabulary has `characters` too.
Corpus make_corpus(const std::vector<std::u32string>& texts, double validation_share = 0.1,
                   std::u32string_view characters = {});

enum class Unit { character, byte };

/// Throws std::runtime_error where a file cannot be read, or all of them together are empty.
Corpus read_corpus(const std::vector<std::filesystem::path>& files, Unit unit = Unit::character);

/// The ids of bytes: <unk>, <s>, </s> and every byte as a character, in this order; the text of a
/// file, which begins with <s>.
std::u32string byte_characters();
std::u32string from_bytes(std::string_view bytes);

/// Throws std::runtime_error where not even one sequence of `context` characters, and the next
/// character of each, fits into both parts.
void require_length(const Corpus& corpus, Index context);

/// B·N characters, sequence after sequence, and for each the one that follows it in the text.
struct Excerpts {
  std::vector<int> inputs;
  std::vector<int> targets;
};

/// `sequences` random excerpts.
Excerpts random_excerpts(std::span<const int> text, Index sequences, Index context,
                         std::mt19937_64& rng);

/// The text cut into sequences that do not overlap: at most `limit` of them, evenly spread.
/// What is left over at the end is dropped.
std::vector<Index> sequence_starts(std::span<const int> text, Index context, Index limit);

/// The excerpts at `starts`.
Excerpts excerpts_at(std::span<const int> text, std::span<const Index> starts, Index context);

// ---------------------------------------------------------------------------------------------

namespace detail {

constexpr char32_t raw_byte = 0xDC00;
constexpr char32_t unknown = U'␀', begin_of_text = U'␁', end_of_text = U'␂';  // shown so

/// The length of the UTF-8 character at the start of `bytes`; 0 where there is none.
inline std::size_t utf8_length(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const auto follows = [&](std::size_t count) {
    if (bytes.size() <= count) return false;
    for (std::size_t i = 1; i <= count; ++i) {
      if ((byte(i) & 0xC0U) != 0x80U) return false;
    }
    return true;
  };
  if (byte(0) < 0x80) return 1;
  if (byte(0) >= 0xC2 && byte(0) < 0xE0) return follows(1) ? 2 : 0;
  if (byte(0) >= 0xE0 && byte(0) < 0xF0) {
    const bool overlong = byte(0) == 0xE0 && bytes.size() > 1 && byte(1) < 0xA0;
    const bool surrogate = byte(0) == 0xED && bytes.size() > 1 && byte(1) >= 0xA0;
    return follows(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (byte(0) >= 0xF0 && byte(0) < 0xF5) {
    const bool overlong = byte(0) == 0xF0 && bytes.size() > 1 && byte(1) < 0x90;
    const bool too_large = byte(0) == 0xF4 && bytes.size() > 1 && byte(1) >= 0x90;
    return follows(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

}  // namespace detail

inline std::u32string from_utf8(std::string_view bytes) {
  constexpr unsigned first_byte_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  std::u32string characters;
  while (!bytes.empty()) {
    const std::size_t length = detail::utf8_length(bytes);
    const auto first = static_cast<unsigned char>(bytes.front());
    char32_t character = length == 0 ? detail::raw_byte + first : first & first_byte_bits[length];
    for (std::size_t i = 1; i < length; ++i) {
      character = (character << 6) | (static_cast<unsigned char>(bytes[i]) & 0x3FU);
    }
    characters.push_back(character);
    bytes.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return characters;
}

inline std::string to_utf8(std::u32string_view characters) {
  std::string bytes;
  const auto put = [&](char32_t byte) { bytes.push_back(static_cast<char>(byte)); };
  const auto put_rest = [&](char32_t character, int count) {
    for (int i = count - 1; i >= 0; --i) put(0x80 | ((character >> (6 * i)) & 0x3F));
  };
  for (const char32_t character : characters) {
    if (character >= detail::raw_byte && character < detail::raw_byte + 0x100) {
      put(character - detail::raw_byte);
    } else if (character < 0x80) {
      put(character);
    } else if (character < 0x800) {
      put(0xC0 | (character >> 6));
      put_rest(character, 1);
    } else if (character < 0x10000) {
      put(0xE0 | (character >> 12));
      put_rest(character, 2);
    } else {
      put(0xF0 | (character >> 18));
      put_rest(character, 3);
    }
  }
  return bytes;
}

inline Vocabulary::Vocabulary(std::u32string characters) : characters_(std::move(characters)) {
  std::sort(characters_.begin(), characters_.end());
  characters_.erase(std::unique(characters_.begin(), characters_.end()), characters_.end());
}

inline bool Vocabulary::contains(char32_t character) const {
  return std::binary_search(characters_.begin(), characters_.end(), character);
}

inline int Vocabulary::number(char32_t character) const {
  const auto place = std::lower_bound(characters_.begin(), characters_.end(), character);
  return static_cast<int>(place - characters_.begin());
}

inline std::vector<int> Vocabulary::encode(std::u32string_view text) const {
  std::vector<int> numbers(text.size());
  std::transform(text.begin(), text.end(), numbers.begin(),
                 [&](char32_t character) { return number(character); });
  return numbers;
}

inline std::string Vocabulary::decode(std::span<const int> numbers) const {
  std::u32string text;
  for (const int number : numbers) text.push_back(characters_[static_cast<std::size_t>(number)]);
  return to_utf8(text);
}

inline std::u32string byte_characters() {
  std::u32string characters{detail::unknown, detail::begin_of_text, detail::end_of_text};
  for (char32_t byte = 0; byte < 256; ++byte) characters.push_back(detail::raw_byte + byte);
  return characters;
}

inline std::u32string from_bytes(std::string_view bytes) {
  std::u32string characters{detail::begin_of_text};
  for (const char byte : bytes) {
    characters.push_back(detail::raw_byte + static_cast<unsigned char>(byte));
  }
  return characters;
}

inline Corpus make_corpus(const std::vector<std::u32string>& texts, double validation_share,
                          std::u32string_view characters) {
  std::u32string training, validation;
  for (const std::u32string_view text : texts) {
    const auto held_out =
        static_cast<std::size_t>(static_cast<double>(text.size()) * validation_share);
    training += text.substr(0, text.size() - held_out);
    validation += text.substr(text.size() - held_out);
  }
  const Vocabulary vocabulary(training + validation + std::u32string(characters));
  return {vocabulary, vocabulary.encode(training), vocabulary.encode(validation)};
}

inline Corpus read_corpus(const std::vector<std::filesystem::path>& files, Unit unit) {
  std::vector<std::u32string> texts;
  std::size_t characters = 0;
  for (const auto& file : files) {
    if (std::filesystem::is_directory(file)) {
      throw std::runtime_error("--corpus: " + file.string() + " is a directory, not a file");
    }
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw std::runtime_error("--corpus: cannot read " + file.string());
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    texts.push_back(unit == Unit::byte ? from_bytes(bytes) : from_utf8(bytes));
    characters += bytes.size();
  }
  if (characters == 0) {
    throw std::runtime_error("--corpus: " + (files.size() == 1
                                                 ? files.front().string() + " is empty"
                                                 : std::string("all of the files are empty")));
  }
  if (unit == Unit::byte) return make_corpus(texts, 0.1, byte_characters());
  return make_corpus(texts);
}

inline void require_length(const Corpus& corpus, Index context) {
  const auto needed = static_cast<std::size_t>(context) + 1;
  if (corpus.training.size() >= needed && corpus.validation.size() >= needed) return;
  throw std::runtime_error("--corpus: too short: " + std::to_string(corpus.training.size()) +
                           " characters to train and " + std::to_string(corpus.validation.size()) +
                           " to validate (a tenth); --context " + std::to_string(context) +
                           " needs at least " + std::to_string(needed) + " of each");
}

inline Excerpts excerpts_at(std::span<const int> text, std::span<const Index> starts,
                            Index context) {
  Excerpts excerpts;
  for (const Index start : starts) {
    const auto excerpt =
        text.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(context) + 1);
    excerpts.inputs.insert(excerpts.inputs.end(), excerpt.begin(), excerpt.end() - 1);
    excerpts.targets.insert(excerpts.targets.end(), excerpt.begin() + 1, excerpt.end());
  }
  return excerpts;
}

inline Excerpts random_excerpts(std::span<const int> text, Index sequences, Index context,
                                std::mt19937_64& rng) {
  std::uniform_int_distribution<Index> start(0, static_cast<Index>(text.size()) - context - 1);
  std::vector<Index> starts(static_cast<std::size_t>(sequences));
  std::generate(starts.begin(), starts.end(), [&] { return start(rng); });
  return excerpts_at(text, starts, context);
}

inline std::vector<Index> sequence_starts(std::span<const int> text, Index context, Index limit) {
  const Index all = (static_cast<Index>(text.size()) - 1) / context;
  const Index count = std::min(all, limit);
  std::vector<Index> starts;
  for (Index i = 0; i < count; ++i) starts.push_back(i * all / count * context);
  return starts;
}

}  // namespace gpt
