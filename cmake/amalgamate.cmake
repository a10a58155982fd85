# The library as one header, for programs that would rather carry a file than a dependency:
#
#   cmake [-DOUTPUT=tokennorm_single.hpp] [-DHEADERS=a.hpp;b.hpp] -P cmake/amalgamate.cmake
#
# HEADERS are what it stands for, with all that they include: by default tokennorm/tokennorm.hpp.
# With others, such as tokennorm/checkpoint/gguf.hpp, one file has to have them all: a program that
# includes two of these files, or one of them and the library's own headers, has everything twice.
cmake_minimum_required(VERSION 3.24...4.2)

get_filename_component(include "${CMAKE_CURRENT_LIST_DIR}/../include" ABSOLUTE)
if(NOT DEFINED OUTPUT)
  set(OUTPUT tokennorm_single.hpp)
endif()
if(NOT DEFINED HEADERS)
  set(HEADERS tokennorm/tokennorm.hpp)
endif()

# append_header(HEADER): its text, with that of the library's headers where they are included, each
# of them once.
function(append_header header)
  get_property(appended GLOBAL PROPERTY appended)
  if(header IN_LIST appended)
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY appended "${header}")
  if(NOT EXISTS "${include}/${header}")
    message(FATAL_ERROR "amalgamate: there is no ${header} in ${include}")
  endif()
  file(READ "${include}/${header}" rest)
  string(REPLACE "#pragma once\n" "" rest "${rest}")
  set(own "\n#include \"")
  while(TRUE)
    string(FIND "${rest}" "${own}tokennorm/" at)
    if(at EQUAL -1)
      break()
    endif()
    string(SUBSTRING "${rest}" 0 ${at} before)
    string(LENGTH "${own}" skipped)
    math(EXPR at "${at} + ${skipped}")
    string(SUBSTRING "${rest}" ${at} -1 rest)
    string(FIND "${rest}" "\"" end)
    string(SUBSTRING "${rest}" 0 ${end} included)
    math(EXPR end "${end} + 1")
    string(SUBSTRING "${rest}" ${end} -1 rest)
    file(APPEND "${OUTPUT}" "${before}\n")
    append_header("${included}")
  endwhile()
  file(APPEND "${OUTPUT}" "${rest}")
endfunction()

file(WRITE "${OUTPUT}" "#pragma once\n\n/*\n")
file(READ "${include}/../LICENSE" license)
file(APPEND "${OUTPUT}" "${license}*/\n\n")
foreach(header IN LISTS HEADERS)
  append_header("${header}")
endforeach()
