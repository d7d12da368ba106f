# `cmake --install`, and what `find_package(lepton_client)` reads.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(LEPTON_CONFIG_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/lepton_client")

install(TARGETS lepton_client lepton_protos EXPORT lepton_client_targets)
install(DIRECTORY include/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY "${LEPTON_GEN_DIR}/lepton/v1" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/lepton"
  FILES_MATCHING PATTERN "*.h")
install(EXPORT lepton_client_targets NAMESPACE lepton:: DESTINATION "${LEPTON_CONFIG_DIR}")

write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/lepton_client-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  cmake/lepton_client-config.cmake
  cmake/Dependencies.cmake
  "${CMAKE_CURRENT_BINARY_DIR}/lepton_client-config-version.cmake"
  DESTINATION "${LEPTON_CONFIG_DIR}")
