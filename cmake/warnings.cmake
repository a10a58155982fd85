# For the project's own programs. Users bring their own warnings, so the library carries none.
add_library(tokennorm_warnings INTERFACE)
target_compile_options(tokennorm_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wdouble-promotion)
