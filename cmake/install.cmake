# SPDX-License-Identifier: BSL-1.0
# Nothing here needs a build, and everything installed may be moved: no absolute path is written.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Headers only, so the same on every architecture: share/, not lib/.
set(multiprocessing_config_dir ${CMAKE_INSTALL_DATADIR}/cmake/multiprocessing)

install(
  TARGETS multiprocessing
  EXPORT multiprocessing
  FILE_SET HEADERS)
install(
  EXPORT multiprocessing
  FILE multiprocessing-targets.cmake
  NAMESPACE multiprocessing::
  DESTINATION ${multiprocessing_config_dir})

configure_package_config_file(
  cmake/config.cmake.in multiprocessing-config.cmake
  INSTALL_DESTINATION ${multiprocessing_config_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  multiprocessing-config-version.cmake
  COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)
install(
  FILES ${CMAKE_CURRENT_BINARY_DIR}/multiprocessing-config.cmake
        ${CMAKE_CURRENT_BINARY_DIR}/multiprocessing-config-version.cmake
  DESTINATION ${multiprocessing_config_dir})

configure_file(cmake/multiprocessing.pc.in multiprocessing.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/multiprocessing.pc
        DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/multiprocessing)
