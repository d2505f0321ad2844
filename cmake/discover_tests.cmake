# SPDX-License-Identifier: BSL-1.0
# Writes OUTPUT, which makes each test case of EXECUTABLE an entry of ctest with its labels.
# Catch's own module does not know labels in version 2, and version 3 lists in another way.
cmake_minimum_required(VERSION 3.25...3.31)

set(labelled_tags parity stress crash interop threads long)

# Sets RESULT to the names of the test cases that match SPEC. Brackets and semicolons would be
# taken for list syntax; they travel as control characters.
function(list_names result)
  execute_process(
    COMMAND ${EXECUTABLE} ${ARGN} --list-test-names-only
    OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE status)
  if(error MATCHES "Unrecognised token|Error")  # version 3
    execute_process(
      COMMAND ${EXECUTABLE} ${ARGN} --list-tests --verbosity quiet
      OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  elseif(NOT status MATCHES "^[0-9]+$")  # version 2 returns their number
    message(FATAL_ERROR "${EXECUTABLE} cannot list its tests: ${status} ${output}${error}")
  endif()
  string(ASCII 1 open)
  string(ASCII 2 close)
  string(ASCII 3 semicolon)
  string(REPLACE "[" "${open}" output "${output}")
  string(REPLACE "]" "${close}" output "${output}")
  string(REPLACE ";" "${semicolon}" output "${output}")
  string(REGEX REPLACE "\n+" ";" output "${output}")
  set(${result} "${output}" PARENT_SCOPE)
endfunction()

list_names(names)
list(REMOVE_ITEM names "")
if(NOT names)
  message(FATAL_ERROR "${EXECUTABLE} has no test cases")
endif()
foreach(tag IN LISTS labelled_tags)
  list_names(tagged_${tag} "[${tag}]")
endforeach()

string(ASCII 1 open)
string(ASCII 2 close)
string(ASCII 3 semicolon)
set(script "")
foreach(name IN LISTS names)
  set(labels unit)
  foreach(tag IN LISTS labelled_tags)
    if(name IN_LIST tagged_${tag} OR GROUP MATCHES "^${tag}(_|$)")
      string(APPEND labels " ${tag}")
    endif()
  endforeach()
  string(REPLACE " " ";" labels "${labels}")
  set(text "${name}")
  string(REPLACE "${open}" "[" text "${text}")
  string(REPLACE "${close}" "]" text "${text}")
  string(REPLACE "${semicolon}" ";" text "${text}")
  # What Catch would take for a pattern.
  string(REGEX REPLACE "([][\\,])" "\\\\\\1" spec "${text}")
  string(APPEND script "add_test([==[${GROUP}: ${text}]==] [==[${EXECUTABLE}]==] [==[${spec}]==])\n"
         "set_tests_properties([==[${GROUP}: ${text}]==] PROPERTIES TIMEOUT 660"
         " LABELS [==[${labels}]==])\n")
endforeach()
file(WRITE ${OUTPUT} "${script}")
