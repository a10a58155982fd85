// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

namespace tokennorm::test {

/// The message of the exception, or that there was none.
template <class Exception = std::invalid_argument, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace tokennorm::test
