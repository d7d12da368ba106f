# protobuf and gRPC as imported targets: from their own CMake packages where these are installed, from pkg-config where
# only that is (Debian). Also part of the installed package, for its users.

find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)

find_package(gRPC CONFIG QUIET)
if(TARGET gRPC::grpc++)
  set(LEPTON_GRPC gRPC::grpc++)
else()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(LEPTON_GRPCPP REQUIRED IMPORTED_TARGET grpc++)
  set(LEPTON_GRPC PkgConfig::LEPTON_GRPCPP)
endif()
