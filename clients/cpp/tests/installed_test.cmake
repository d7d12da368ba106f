# Installs the library from BUILD_DIR, and builds the examples against nothing but what was installed.

set(work "${BUILD_DIR}/installed-test")
file(REMOVE_RECURSE "${work}")

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
endfunction()

run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${work}/prefix")
run("${CMAKE_COMMAND}" -S "${EXAMPLES_DIR}" -B "${work}/build" "-DCMAKE_PREFIX_PATH=${work}/prefix"
  "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}")
run("${CMAKE_COMMAND}" --build "${work}/build")
