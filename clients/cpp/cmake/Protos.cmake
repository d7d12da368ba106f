# The generated stubs, as a library of their own: usable without the client.

set(LEPTON_PROTO_DIR "${CMAKE_CURRENT_SOURCE_DIR}/../../protos")
set(LEPTON_GEN_DIR "${CMAKE_CURRENT_BINARY_DIR}/gen")
find_program(LEPTON_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)
file(MAKE_DIRECTORY "${LEPTON_GEN_DIR}")

# lepton_generate(DIR NAME [grpc]): the sources of DIR/NAME.proto, appended to LEPTON_GENERATED.
function(lepton_generate dir name)
  set(outputs "${LEPTON_GEN_DIR}/${name}.pb.cc" "${LEPTON_GEN_DIR}/${name}.pb.h")
  set(grpc)
  if("grpc" IN_LIST ARGN)
    list(APPEND outputs "${LEPTON_GEN_DIR}/${name}.grpc.pb.cc" "${LEPTON_GEN_DIR}/${name}.grpc.pb.h")
    set(grpc "--grpc_out=${LEPTON_GEN_DIR}" "--plugin=protoc-gen-grpc=${LEPTON_GRPC_PLUGIN}")
  endif()
  add_custom_command(
    OUTPUT ${outputs}
    COMMAND protobuf::protoc "-I${dir}" "--cpp_out=${LEPTON_GEN_DIR}" ${grpc} "${dir}/${name}.proto"
    DEPENDS "${dir}/${name}.proto"
    COMMENT "Generating ${name}"
    VERBATIM)
  set(LEPTON_GENERATED ${LEPTON_GENERATED} ${outputs} PARENT_SCOPE)
endfunction()

lepton_generate("${LEPTON_PROTO_DIR}" lepton/v1/types)
lepton_generate("${LEPTON_PROTO_DIR}" lepton/v1/inference grpc)
lepton_generate("${CMAKE_CURRENT_SOURCE_DIR}/proto" lepton/client/rpc_status)

add_library(lepton_protos ${LEPTON_GENERATED})
add_library(lepton::protos ALIAS lepton_protos)
set_target_properties(lepton_protos PROPERTIES EXPORT_NAME protos)
# SYSTEM: what is generated is not ours to keep free of warnings.
target_include_directories(lepton_protos SYSTEM
  PUBLIC $<BUILD_INTERFACE:${LEPTON_GEN_DIR}> $<INSTALL_INTERFACE:include>)
target_link_libraries(lepton_protos PUBLIC ${LEPTON_GRPC} protobuf::libprotobuf Threads::Threads)
