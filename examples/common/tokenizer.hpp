// SPDX-License-Identifier: MIT
/// Byte-pair encoding, as llama2.c has it: text to ids and back.
///
///     encode: BOS, a space, then the characters of the text. One that is no token becomes a token
///     "<0xE2>" for each of its bytes. Then the two neighbours that together are the token of the
///     highest score become that token, again and again.
///
/// File       the longest token's length, then for each token its score (float32), its length and
///            its bytes
/// Throws     std::runtime_error that names the file and the fault, or the byte that has no token
/// Source     karpathy/llama2.c: run.c (encode, decode), tokenizer.py; Sennrich et al. 2016,
///            arXiv:1508.07909
#pragma once

#include "file_fault.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace examples {

class Tokenizer {
 public:
  static constexpr int begin_of_text = 1, end_of_text = 2;

  struct Token {
    std::string text;
    float score;
  };

  explicit Tokenizer(std::vector<Token> tokens);
  /// Of <unk>, BOS, EOS, and bytes.
  static Tokenizer of_bytes();
  /// The file has as many tokens as the model's vocabulary.
  static Tokenizer read(const std::filesystem::path& file, std::int64_t vocabulary);
  void write(const std::filesystem::path& file) const;

  std::vector<int> encode(std::string_view text) const;
  /// What the id adds to a text that has `previous` before it. Control characters, which may do
  /// things to a terminal, add nothing, but for those of white space.
  std::string decode(int previous, int id) const;

 private:
  const std::string& text_of(int id) const { return tokens_[static_cast<std::size_t>(id)].text; }
  int find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }
  static std::string byte_token(unsigned byte) {
    std::array<char, 8> text;
    std::snprintf(text.data(), text.size(), "<0x%02X>", byte);
    return text.data();
  }
  void encode_character(const std::string& character, std::vector<int>& ids) const;

  std::vector<Token> tokens_;
  std::unordered_map<std::string, int> ids_;
  std::unordered_map<std::string, char> bytes_;  // of "<0x0A>"
};

inline Tokenizer::Tokenizer(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    ids_.emplace(tokens_[id].text, static_cast<int>(id));
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes_.emplace(byte_token(byte), static_cast<char>(byte));
  }
}

inline Tokenizer Tokenizer::of_bytes() {
  std::vector<Token> tokens{{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (unsigned byte = 0; byte < 256; ++byte) tokens.push_back({byte_token(byte), 0});
  return Tokenizer(std::move(tokens));
}

inline Tokenizer Tokenizer::read(const std::filesystem::path& file, std::int64_t vocabulary) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail(file, "cannot be read");
  const auto read = [&](auto* value, std::size_t bytes) {
    stream.read(reinterpret_cast<char*>(value), static_cast<std::streamsize>(bytes));
    return static_cast<bool>(stream);
  };
  std::int32_t longest = 0;
  bool fits = read(&longest, sizeof longest) && longest > 0 && longest < 4096;
  std::vector<Token> tokens;
  while (fits && static_cast<std::int64_t>(tokens.size()) < vocabulary) {
    Token& token = tokens.emplace_back();
    std::int32_t length = 0;
    fits = read(&token.score, sizeof token.score) && read(&length, sizeof length) && length >= 0 &&
           length <= longest;
    if (!fits) break;
    token.text.resize(static_cast<std::size_t>(length));
    fits = read(token.text.data(), token.text.size());
  }
  if (!fits || stream.peek() != std::ifstream::traits_type::eof()) {
    fail(file, (fits ? "goes on behind " : "is no tokenizer of ") + std::to_string(vocabulary) +
                   " tokens, which are the model's vocabulary");
  }
  return Tokenizer(std::move(tokens));
}

inline void Tokenizer::write(const std::filesystem::path& file) const {
  std::ofstream stream(file, std::ios::binary);
  const auto write = [&](const auto& value) {
    stream.write(reinterpret_cast<const char*>(&value), sizeof value);
  };
  std::int32_t longest = 0;
  for (const Token& token : tokens_) {
    longest = std::max(longest, static_cast<std::int32_t>(token.text.size()));
  }
  write(longest);
  for (const auto& [text, score] : tokens_) {
    write(score);
    write(static_cast<std::int32_t>(text.size()));
    stream << text;
  }
  if (!stream.flush()) fail(file, "cannot be written");
}

inline void Tokenizer::encode_character(const std::string& character, std::vector<int>& ids) const {
  if (const int id = find(character); id >= 0) return ids.push_back(id);
  for (const char byte : character) {
    const std::string text = byte_token(static_cast<unsigned char>(byte));
    const int id = find(text);
    if (id < 0) throw std::runtime_error("the tokenizer has no token for the byte " + text);
    ids.push_back(id);
  }
}

inline std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids{begin_of_text};
  if (!text.empty()) encode_character(" ", ids);
  const auto continues = [&](std::size_t i) { return i < text.size() && (text[i] & 0xC0) == 0x80; };
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = begin + 1;
    while (continues(end) && end - begin < 4) ++end;
    encode_character(std::string(text.substr(begin, end - begin)), ids);
  }
  while (true) {
    float best_score = -1e10F;
    std::size_t best = 0;
    int merged = -1;
    for (std::size_t i = 1; i + 1 < ids.size(); ++i) {
      const int id = find(text_of(ids[i]) + text_of(ids[i + 1]));
      if (id < 0 || !(tokens_[static_cast<std::size_t>(id)].score > best_score)) continue;
      best_score = tokens_[static_cast<std::size_t>(id)].score;
      best = i;
      merged = id;
    }
    if (merged < 0) return ids;
    ids[best] = merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

inline std::string Tokenizer::decode(int previous, int id) const {
  std::string text = text_of(id);
  if (const auto byte = bytes_.find(text); byte != bytes_.end()) {
    const auto character = static_cast<unsigned char>(byte->second);
    const bool is_shown = std::iscntrl(character) == 0 || std::isspace(character) != 0;
    text = is_shown ? std::string{byte->second} : "";
  }
  if (previous == begin_of_text && text.starts_with(' ')) text.erase(0, 1);  // encode put it there
  return text;
}

}  // namespace examples
