# The API reference, from the headers' comments:  cmake --build build --target reference
# It ends with an error where a public name has no comment.
find_package(Doxygen 1.9 QUIET)
if(NOT DOXYGEN_FOUND)
  add_custom_target(reference
    COMMAND ${CMAKE_COMMAND} -E echo
      "tokennorm: the reference needs Doxygen (Debian, Ubuntu: doxygen)\; then configure again"
    COMMAND ${CMAKE_COMMAND} -E false
    VERBATIM)
  return()
endif()

set(DOXYGEN_PROJECT_NUMBER ${PROJECT_VERSION})
set(DOXYGEN_PROJECT_BRIEF "${PROJECT_DESCRIPTION}")
set(DOXYGEN_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/reference")
set(DOXYGEN_HTML_OUTPUT .)
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_STRIP_FROM_INC_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_USE_MDFILE_AS_MAINPAGE "${PROJECT_SOURCE_DIR}/README.md")
set(DOXYGEN_IMAGE_PATH "${PROJECT_SOURCE_DIR}")

# What is public. The kernels have a page of their own, in their README.
set(DOXYGEN_RECURSIVE YES)
set(DOXYGEN_FILE_PATTERNS *.hpp *.md)
set(DOXYGEN_EXCLUDE_PATTERNS */kernels/*.hpp */adapters/mpi_messages.hpp)
set(DOXYGEN_INPUT_FILTER "awk -f ${CMAKE_CURRENT_LIST_DIR}/reference/filter.awk")
set(DOXYGEN_EXTRACT_ALL NO)
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
set(DOXYGEN_QUIET YES)

set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_INLINE_INHERITED_MEMB YES)
set(DOXYGEN_SORT_MEMBER_DOCS NO)
set(DOXYGEN_SHOW_USED_FILES NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_CLASS_GRAPH NO)
set(DOXYGEN_GENERATE_TREEVIEW YES)
set(DOXYGEN_TOC_INCLUDE_HEADINGS 2)
set(DOXYGEN_HTML_TIMESTAMP NO)
set(DOXYGEN_HTML_COLORSTYLE_SAT 30)
doxygen_add_docs(reference
  "${PROJECT_SOURCE_DIR}/README.md"
  "${PROJECT_SOURCE_DIR}/bench/README.md"
  "${PROJECT_SOURCE_DIR}/examples/README.md"
  "${PROJECT_SOURCE_DIR}/tests/README.md"
  "${PROJECT_SOURCE_DIR}/include/tokennorm"
  "${CMAKE_CURRENT_LIST_DIR}/reference/namespaces.hpp"
  COMMENT "The API reference: ${PROJECT_BINARY_DIR}/reference/index.html")
