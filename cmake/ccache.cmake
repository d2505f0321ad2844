# SPDX-License-Identifier: BSL-1.0
# Used by the presets: ccache, where there is one. The sloppiness is what it needs to cache a
# compilation that uses a precompiled header.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()
