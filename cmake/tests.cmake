# SPDX-License-Identifier: BSL-1.0
# How the tests are made; which there are stands in tests/CMakeLists.txt.

multiprocessing_find_catch()
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# Every header compiles by itself: target all_verify_interface_header_sets.
set_target_properties(multiprocessing PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)

# Catch's main, and with it the precompiled header that all tests share.
add_library(mp_test_main STATIC support/main.cpp support/warm_up.cpp)
target_include_directories(mp_test_main PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(mp_test_main PUBLIC mp_precompiled ${MULTIPROCESSING_CATCH})
# Nearly all of it is Catch, which takes long to optimise.
set_source_files_properties(
  support/main.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS -O0)
target_precompile_headers(mp_test_main PRIVATE support/pch.hpp)

# mp_test(GROUP [NO_PCH] FILES...): an executable test_GROUP of those files. Its test cases have the
# label `unit`, and those of the tags in discover_tests.cmake that they have or that the group is
# named after. NO_PCH is for a file that defines MULTIPROCESSING_KILL_POINT before it includes the
# library; it must be the only one of its group, since the inline functions differ.
function(mp_test group)
  cmake_parse_arguments(PARSE_ARGV 1 arg NO_PCH "" "")
  set(files ${arg_UNPARSED_ARGUMENTS})
  set(target test_${group})
  add_executable(${target} ${files})
  target_link_libraries(${target} PRIVATE mp_test_main)
  if(NOT arg_NO_PCH)
    target_precompile_headers(${target} REUSE_FROM mp_test_main)
  endif()
  set_property(GLOBAL APPEND PROPERTY MP_LISTED_TESTS ${files})

  set(tests_file ${CMAKE_CURRENT_BINARY_DIR}/${target}.tests.cmake)
  add_custom_command(
    TARGET ${target} POST_BUILD
    COMMAND
      ${CMAKE_COMMAND} -D EXECUTABLE=$<TARGET_FILE:${target}> -D GROUP=${group} -D
      OUTPUT=${tests_file} -P ${PROJECT_SOURCE_DIR}/cmake/discover_tests.cmake
    BYPRODUCTS ${tests_file}
    VERBATIM)
  file(
    WRITE ${CMAKE_CURRENT_BINARY_DIR}/${target}.include.cmake
    "if(EXISTS \"${tests_file}\")\n  include(\"${tests_file}\")\nelse()\n"
    "  add_test(\"${group}: NOT BUILT\" NOT_BUILT)\nendif()\n")
  set_property(
    DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES
                              ${CMAKE_CURRENT_BINARY_DIR}/${target}.include.cmake)
endfunction()

# mp_test_program(GROUP NAME FILES...): a program that the tests of GROUP start; it stands beside
# their executable.
function(mp_test_program group name)
  mp_program(${name} ${ARGN})
  add_dependencies(test_${group} ${name})
endfunction()

# The watch over what a test leaves behind, and the alarm, are themselves seen to strike.
function(mp_support_tests)
  mp_test(support support/test_support.cpp)
  foreach(what IN ITEMS descriptor child zombie thread shm)
    add_test(NAME "support: a left ${what} is reported" COMMAND test_support "leaves a ${what}")
    set_tests_properties(
      "support: a left ${what} is reported"
      PROPERTIES PASS_REGULAR_EXPRESSION "FAILED: \"leaves a ${what}\" leaves behind" LABELS unit
                 TIMEOUT 60)
  endforeach()
  # Ended by a signal, which is a failure to ctest whatever was written.
  add_test(NAME "support: a test case that hangs is ended"
           COMMAND sh -c "\"$1\" hangs; test $? -eq 142" sh $<TARGET_FILE:test_support>)
  set_tests_properties(
    "support: a test case that hangs is ended"
    PROPERTIES PASS_REGULAR_EXPRESSION "this test case took too long: hangs" LABELS unit TIMEOUT 60)
endfunction()

# Random kills: a short storm of each subject, and ten thousand kills of each under `long`.
# tools/storm.sh runs it for as long as one likes.
function(mp_storm_tests)
  mp_program(storm stress/storm.cpp stress/queue_storm.cpp stress/synchronize_storm.cpp
             stress/pool_storm.cpp)
  target_include_directories(storm PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(subject IN ITEMS queue lock rlock semaphore condition event barrier pool_workers
                           pool_nursery pool_parent)
    set(few 300)
    set(many 10000)
    if(subject MATCHES "nursery|parent") # a kill costs a pool
      set(few 20)
      set(many 1000)
    endif()
    add_test(NAME "storm: ${subject}" COMMAND storm --subject ${subject} --kills ${few})
    set_tests_properties("storm: ${subject}" PROPERTIES LABELS stress TIMEOUT 300)
    add_test(NAME "storm: ${subject}, ${many} kills" COMMAND storm --subject ${subject} --kills
                                                             ${many})
    set_tests_properties("storm: ${subject}, ${many} kills" PROPERTIES LABELS "stress;long"
                                                                       TIMEOUT 3600)
  endforeach()
endfunction()

# The algorithms of lock, guard and ring, explored in every interleaving; with `--large` in more
# rounds and deaths, which takes a minute and a gigabyte. Optimised whatever the build is.
function(mp_model_tests)
  add_executable(model model/main.cpp)
  target_compile_features(model PRIVATE cxx_std_20)
  target_compile_options(model PRIVATE -O2)
  foreach(subject IN ITEMS owner_word guard ring)
    add_test(NAME "model: ${subject}" COMMAND model ${subject})
    set_tests_properties("model: ${subject}" PROPERTIES LABELS unit TIMEOUT 660)
    add_test(NAME "model: ${subject}, large" COMMAND model ${subject} --large)
    set_tests_properties("model: ${subject}, large" PROPERTIES LABELS long TIMEOUT 3600)
  endforeach()
endfunction()

# compile_fail/*.cpp do not compile, and say what their first line expects.
function(mp_compile_fail_tests)
  set(command_file ${CMAKE_CURRENT_BINARY_DIR}/compile_fail_command)
  set(includes $<TARGET_PROPERTY:mp_test_main,INCLUDE_DIRECTORIES>)
  file(
    GENERATE
    OUTPUT ${command_file}
    CONTENT "${CMAKE_CXX_COMPILER}\n-std=c++20\n$<$<BOOL:${includes}>:-I$<JOIN:${includes},\n-I>>\n"
    TARGET mp_test_main)
  file(GLOB sources CONFIGURE_DEPENDS compile_fail/*.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    mp_script_test("compile_fail: ${name}" compile_fail ${CMAKE_CURRENT_SOURCE_DIR}/support/compile_fail.py
                   ${command_file} ${source})
  endforeach()
  mp_script_test("compile_fail: what is right compiles" compile_fail
                 ${CMAKE_CURRENT_SOURCE_DIR}/support/compile_fail.py --control ${command_file}
                 ${CMAKE_CURRENT_SOURCE_DIR}/support/compiles.cpp)
endfunction()

# A consumer is built each way in which the library can be had.
function(mp_package_tests)
  foreach(way IN ITEMS add_subdirectory fetch_content find_package pkg_config without_catch2
                       installed_names)
    add_test(NAME "package: ${way}" COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/package/check ${way}
                                            ${CMAKE_CURRENT_BINARY_DIR}/package/${way})
    set_tests_properties(
      "package: ${way}"
      PROPERTIES LABELS package TIMEOUT 300 ENVIRONMENT
                 "CMAKE=${CMAKE_COMMAND};CXX=${CMAKE_CXX_COMPILER};CMAKE_GENERATOR=${CMAKE_GENERATOR}")
  endforeach()
endfunction()

# The tools that guard the tree find what they are made to find, and find nothing here.
function(mp_tool_tests)
  set(tools ${PROJECT_SOURCE_DIR}/tools)
  mp_script_test("tools: the headers keep the rules" tools ${tools}/check_headers)
  mp_script_test("tools: python-parity.md is up to date" tools ${tools}/python_parity --check)
  mp_script_test("tools: the samples are compiled" tools ${tools}/check_samples)
  foreach(test IN ITEMS check_headers python_parity check_samples compile_fail pictures)
    mp_script_test("tools: test_${test}" tools ${CMAKE_CURRENT_SOURCE_DIR}/tools/test_${test}.py)
  endforeach()
  if(MULTIPROCESSING_BUILD_EXAMPLES) # and mp-top with them
    mp_program(tools_watched tools/programs/watched.cpp)
    mp_script_test("tools: test_mp_top" tools ${CMAKE_CURRENT_SOURCE_DIR}/tools/test_mp_top.py
                   $<TARGET_FILE:mp-top> $<TARGET_FILE:tools_watched>)
  endif()
  mp_script_test("tools: the umbrella is light" tools ${tools}/header_weight
                 ${CMAKE_CURRENT_BINARY_DIR}/compile_fail_command)
  # It compares times, and what runs beside it weighs on one more than on the other.
  set_tests_properties("tools: the umbrella is light" PROPERTIES RUN_SERIAL ON)
endfunction()

function(mp_script_test name label)
  add_test(NAME "${name}" COMMAND ${Python3_EXECUTABLE} -B ${ARGN})
  set_tests_properties("${name}" PROPERTIES LABELS ${label} TIMEOUT 300)
endfunction()

# mp_step_kill_tests(SOURCES...): the programs of crash/step, which kill a process at every machine
# instruction, or at every named place, of every operation. They are optimised whatever the build is,
# and bound when they start, so that the dynamic linker is not among what is stepped.
function(mp_step_kill_tests)
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    return() # a sanitizer's own instructions are not what is to be proved
  endif()
  foreach(program IN ITEMS step_kill kill_points)
    add_executable(${program} crash/step/${program}.cpp ${ARGN})
    target_link_libraries(${program} PRIVATE multiprocessing::multiprocessing ${CMAKE_DL_LIBS})
    target_include_directories(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_compile_options(${program} PRIVATE -O2)
    target_link_options(${program} PRIVATE -Wl,-z,now)
  endforeach()
  target_compile_options(kill_points PRIVATE
                         "SHELL:-include ${CMAKE_CURRENT_SOURCE_DIR}/crash/step/kill_point.hpp")

  set(table ${CMAKE_CURRENT_SOURCE_DIR}/crash/points.tsv)
  # By what takes about as long.
  foreach(group IN ITEMS
      "lock.acquire/contended lock.acquire/timed lock.acquire/free"
      "lock.acquire/dead lock.acquire/poisoned lock.release lock.recover"
      "rlock.acquire/contended rlock.acquire/free rlock.acquire/nested"
      "rlock.acquire/timed rlock.acquire/dead rlock.acquire/poisoned rlock.release rlock.recover"
      "semaphore.acquire semaphore.get_value"
      "semaphore.release"
      "condition.wait"
      "condition.notify/nobody condition.notify/somebody"
      "condition.notify/a condition.notify_all"
      "event."
      "barrier.wait"
      "barrier.reset barrier.abort"
      "value. raw_value. array."
      "family. slab."
      "queue.put"
      "queue.get queue.shutdown queue.close"
      "joinable_queue. simple_queue. connection."
      "ring.put ring.fileno"
      "ring.get"
      "pool.")
    separate_arguments(prefixes UNIX_COMMAND "${group}")
    add_test(NAME "step_kill: ${group}" COMMAND step_kill --table ${table} ${prefixes})
    set_tests_properties("step_kill: ${group}" PROPERTIES SKIP_RETURN_CODE 77)
    list(APPEND tests "step_kill: ${group}")
    list(APPEND prefixes_of_all ${prefixes})
  endforeach()
  add_test(NAME "kill_points: every row" COMMAND kill_points --table ${table})
  add_test(NAME "step_kill: every row is in a test, and in the table"
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/crash/check_rows.py
                   $<TARGET_FILE:step_kill> ${table} ${CMAKE_CURRENT_SOURCE_DIR}/crash/operations.tsv
                   ${PROJECT_SOURCE_DIR}/include ${prefixes_of_all})
  add_test(NAME "kill_points: a normal build holds no trace of them"
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/crash/check_no_trace.py
                   ${PROJECT_SOURCE_DIR}/include $<TARGET_FILE:step_kill> $<TARGET_FILE:kill_points>)
  # Each is compiled anew, so they are not for every day; the table of what catches which is.
  file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/crash/mutants.tsv mutants REGEX "^[0-9]+\t")
  foreach(mutant IN LISTS mutants)
    string(REGEX MATCH "^[0-9]+" number "${mutant}")
    add_test(NAME "step_kill: mutant ${number} is caught"
             COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/crash/mutants.py ${number}
                     ${CMAKE_CURRENT_BINARY_DIR}/compile_fail_command
                     ${CMAKE_CURRENT_BINARY_DIR}/mutants
                     ${CMAKE_CURRENT_SOURCE_DIR}/crash/mutants.tsv)
    set_tests_properties("step_kill: mutant ${number} is caught"
                         PROPERTIES LABELS "crash;long" TIMEOUT 900 SKIP_RETURN_CODE 77)
  endforeach()
  add_test(NAME "step_kill: every mutant is in the table"
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/crash/mutants.py --table
                   ${CMAKE_CURRENT_SOURCE_DIR}/crash/mutants.tsv)
  set_tests_properties(${tests} PROPERTIES LABELS "crash;long" TIMEOUT 900)
  set_tests_properties(
    "kill_points: every row" "step_kill: every mutant is in the table"
    "step_kill: every row is in a test, and in the table"
    "kill_points: a normal build holds no trace of them" PROPERTIES LABELS crash TIMEOUT 600)
endfunction()

# A test file that nobody builds would be green for ever.
function(mp_check_all_listed)
  file(GLOB found RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS */test_*.cpp)
  get_property(listed GLOBAL PROPERTY MP_LISTED_TESTS)
  list(REMOVE_ITEM found ${listed})
  if(found)
    message(FATAL_ERROR "not listed in tests/CMakeLists.txt: ${found}")
  endif()
endfunction()
