# Doxygen's input filter: the headers as they are written, in words that Doxygen knows.
#
#   awk -f filter.awk FILE
#
# - The comment at the top of a header is that of the file.
# - "/// Shapes     x, y (T, C)": a word, then two or more blanks, begins a paragraph of that title.
# - A comment speaks of all declarations below it, up to the next comment or empty line.
# - Nothing of namespace detail is shown, but the classes that public ones are made of.
# - What a public name leaves to the top of its header has a link to that.
# - In a README, links to sections and to what has no page here are left out.
# - Overloads that say what is wrong with a call are not shown.

function is_comment(line) { return line ~ /^ *\/\/\// }
function indent_of(line) { match(line, /^ */); return RLENGTH }

# A line of a comment, as Doxygen is to see it.
function say_comment(line,    before, title, rest) {
  before = line
  sub(/\/\/\/.*/, "/// ", before)
  rest = line
  sub(/^ *\/\/\/ ?/, "", rest)
  if (match(rest, /^[A-Z][a-z]+  +/)) {
    title = substr(rest, 1, RLENGTH)
    sub(/ +$/, "", title)
    rest = substr(rest, RLENGTH + 1)
    print before "\\par " title
    in_paragraph = 1
  } else if (rest == "") {
    in_paragraph = 0
  }
  if (in_paragraph) sub(/^ +/, "", rest)
  if (rest !~ /^    /) gsub(/[<>@]/, "\\\\&", rest) # else it is code
  print before rest
}

FILENAME ~ /\.md$/ {
  is_readme = 1
  gsub(/\.md#[a-z0-9_-]*\)/, ".md)")
  rest = $0
  line = ""
  while (match(rest, /[^!]\[[^]]*\]\((#[^)]*|[^):]*\.[a-z]pp)\)/)) {
    link = substr(rest, RSTART, RLENGTH - 1)
    sub(/\]\(.*/, "", link)
    sub(/\[/, "", link)
    line = line substr(rest, 1, RSTART - 1) link
    rest = substr(rest, RSTART + RLENGTH)
  }
  print line rest
  next
}
{ lines[NR] = $0 }

END {
  if (is_readme) exit
  # What is hidden of namespace detail.
  shown = "^ *(class|struct) (Norm|BlockCalls|Chain)( |$)"
  for (i = 1; i <= NR; ++i) {
    if (lines[i] ~ /^\}  \/\/ namespace (tokennorm::)?detail/) inside = 0
    hidden[i] = inside
    if (lines[i] ~ /^namespace (tokennorm::)?detail(::[a-z_]+)? \{/) inside = 1
    if (lines[i] ~ /^\/\/\/ (Shapes|Throws)/ && !has_code) head_says = 1
    has_code = has_code || lines[i] ~ /^#pragma once/
  }
  for (i = 1; i <= NR; ++i) {
    if (!hidden[i] || lines[i] !~ shown || lines[i] ~ /;$/) continue
    for (first = i; lines[first - 1] ~ /^(\/\/\/|template|requires|    )/; --first) {}
    for (last = i; lines[last] !~ /^\};/; ++last) {}
    for (j = first; j <= last; ++j) hidden[j] = 0
  }

  for (i = 1; i <= NR; ++i) {
    if (lines[i] !~ /^  template <.*, Number T>$/) continue
    for (j = i; !hidden[j]; ++j) {
      hidden[j] = 1
      if (lines[j] ~ /^  \}$/) break
    }
  }

  at_top = 1
  file_name = FILENAME
  sub(/.*\//, "", file_name)
  for (i = 1; i <= NR; ++i) {
    line = lines[i]
    if (hidden[i] && !is_hidden) print "/// \\cond"
    if (!hidden[i] && is_hidden) print "/// \\endcond"
    is_hidden = hidden[i]
    if (is_hidden) { print line; continue }

    if (line ~ /^\/\/ clang-format/) continue
    # Accepted<Base, Part...> is Base<Part...>, if its parts are what they should be.
    if (match(line, /detail::Accepted<[A-Za-z:]+, /)) {
      base = substr(line, RSTART + 17, RLENGTH - 19)
      line = substr(line, 1, RSTART - 1) base "<" substr(line, RSTART + RLENGTH)
    } else if (line ~ /detail::Accepted<$/) {
      sub(/detail::Accepted<$/, "", line)
      sub(/, /, "<", lines[i + 1])
    }
    if (is_comment(line)) {
      if (!in_comment) in_paragraph = 0
      if (at_top) print "/// \\file"
      at_top = 0
      if (!in_comment) comment_lines = 0
      in_comment = 1
      comment[++comment_lines] = line
      comment_indent = indent_of(line)
      say_comment(line)
      continue
    }
    if (line !~ /^\/\/ SPDX/) at_top = 0
    if (in_comment) { # the first declaration below
      in_comment = 0
      speaks = 1
      is_first = 1
      if (head_says && line ~ /^[a-z]/ && line !~ /^namespace/) {
        print "///"
        print "/// Shapes, error, aliasing, what throws and the source: see " file_name "."
      }
    }
    if (line ~ /^ *$/ || line ~ /^ *\/\// || line ~ /^ *(public|private|protected):/) {
      speaks = speaks && line ~ /^ *\/\/ /
      head_is_open = 0
    } else if (speaks && indent_of(line) == comment_indent && line !~ /^ *(}|#[^d])/) {
      if (!head_is_open && !is_first) {
        for (j = 1; j <= comment_lines; ++j) say_comment(comment[j])
      }
      is_first = 0
      head_is_open = line ~ /^ *template/ || line ~ /^ *requires.*[)>]$/
    }
    print line
  }
  if (is_hidden) print "/// \\endcond"
}
