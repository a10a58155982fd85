// SPDX-License-Identifier: MIT
/// JSON of a checkpoint, its headers and its index, read event by event: without a stack frame for
/// each level, and without a document in memory.
///
/// Throws   std::runtime_error that names the file, and the byte where it is not JSON
#pragma once

#include "tokennorm/checkpoint/errors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace tokennorm::detail {

/// What nlohmann's parser reports, with all that neither a header nor an index can use gathered in
/// `other`. A fault is reported from inside an event, so that none is refused.
class JsonEvents {
 public:
  JsonEvents(const std::string& file, const char* document) : file_(file), document_(document) {}
  JsonEvents(const JsonEvents&) = delete;
  JsonEvents& operator=(const JsonEvents&) = delete;

  /// Reads all of the text.
  void read(std::string_view text);

  bool null() { return other("null"); }
  bool boolean(bool value) { return other(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) { return other(std::to_string(value)); }
  bool number_float(double, const std::string& text) { return other(text); }
  bool binary(nlohmann::json::binary_t&) { return other("bytes"); }
  bool number_unsigned(std::uint64_t value) {
    number(value);
    return true;
  }
  bool string(std::string& text) {
    take(text);
    return true;
  }
  bool start_object(std::size_t) {
    open('{');
    return true;
  }
  bool end_object() {
    close();
    return true;
  }
  bool start_array(std::size_t) {
    open('[');
    return true;
  }
  bool end_array() {
    close();
    return true;
  }
  bool key(std::string& name) {
    take_key(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& last, const nlohmann::json::exception&);

 protected:
  ~JsonEvents() = default;
  virtual void open(char bracket) = 0;
  virtual void close() = 0;
  virtual void take_key(std::string& name) = 0;
  virtual void take(std::string& text) = 0;
  virtual void number(std::uint64_t value) = 0;
  virtual void unexpected(const std::string& found) = 0;

  const std::string& file_;

 private:
  bool other(const std::string& found) {
    unexpected(found);
    return true;
  }

  const char* document_;
};

inline void JsonEvents::read(std::string_view text) {
  // The parser would take white space and a byte order mark before the object, and a NUL for the
  // end of the text.
  if (!text.starts_with('{')) {
    fail_other_kind(file_, text);
    fail_file(file_, std::string(document_) + " starts with " + in_quotes(text.substr(0, 1)) +
                         "; expected '{'");
  }
  if (const auto nul = text.find('\0'); nul != text.npos) {
    fail_file(file_, std::string(document_) + " is not JSON: a NUL at byte " + std::to_string(nul));
  }
  nlohmann::json::sax_parse(text.begin(), text.end(), this);
}

inline bool JsonEvents::parse_error(std::size_t position, const std::string& last,
                                    const nlohmann::json::exception&) {
  const std::size_t shown = std::min<std::size_t>(last.size(), 40);
  fail_file(file_, std::string(document_) + " is not JSON at byte " + std::to_string(position) +
                       ", after " + in_quotes(std::string_view(last).substr(last.size() - shown)));
}

}  // namespace tokennorm::detail
