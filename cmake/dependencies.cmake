# SPDX-License-Identifier: BSL-1.0
# What is installed is used; what is not is fetched, by content and not by name.
include(FetchContent)
find_package(Threads REQUIRED)

find_package(fmt 9 QUIET)
if(NOT TARGET fmt::fmt)
  FetchContent_Declare(
    fmt SYSTEM
    GIT_REPOSITORY https://github.com/fmtlib/fmt.git
    GIT_TAG e69e5f977d458f2650bb346dadf2ad30c5320281)  # 10.2.1
  FetchContent_MakeAvailable(fmt)
endif()

find_package(Boost 1.74 QUIET)
if(TARGET Boost::headers)
  set(MULTIPROCESSING_BOOST Boost::headers)
else()
  set(BOOST_INCLUDE_LIBRARIES interprocess)
  FetchContent_Declare(
    Boost SYSTEM
    URL https://github.com/boostorg/boost/releases/download/boost-1.84.0/boost-1.84.0.tar.xz
    URL_HASH SHA256=2e64e5d79a738d0fa6fb546c6e5c2bd28f88d268a2a080546f74e5ff98f29d0e
    DOWNLOAD_EXTRACT_TIMESTAMP ON)
  FetchContent_MakeAvailable(Boost)
  set(MULTIPROCESSING_BOOST Boost::interprocess)
endif()

# Links TARGET with the three. The installed target finds its own (cmake/config.cmake.in), so that
# fetched ones need not be exported.
function(multiprocessing_link_dependencies target)
  target_link_libraries(
    ${target} INTERFACE
    $<BUILD_INTERFACE:${MULTIPROCESSING_BOOST}> $<BUILD_INTERFACE:fmt::fmt>
    $<INSTALL_INTERFACE:Boost::headers> $<INSTALL_INTERFACE:fmt::fmt>
    Threads::Threads)
endfunction()

# Finds Catch2, of either interface, and sets MULTIPROCESSING_CATCH to its target without a main.
macro(multiprocessing_find_catch)
  find_package(Catch2 QUIET)
  if(NOT TARGET Catch2::Catch2)
    FetchContent_Declare(
      Catch2 SYSTEM
      GIT_REPOSITORY https://github.com/catchorg/Catch2.git
      GIT_TAG 6e79e682b726f524310d55dec8ddac4e9c52fb5f)  # 3.4.0
    FetchContent_MakeAvailable(Catch2)
  endif()
  set(MULTIPROCESSING_CATCH Catch2::Catch2)
endmacro()
