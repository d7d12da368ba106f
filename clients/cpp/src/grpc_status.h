#pragma once

#include <string>

#include "lepton/error.h"
#include "peer.h"

namespace grpc {
class ClientContext;
class Status;
}  // namespace grpc

namespace lepton::internal {

/// What a status other than OK means: reason, field and delay by its details when they are Lepton's. `address`: who was
/// asked; `has_begun`: something had come of the call before.
Error FromStatus(const grpc::Status& status, CallIds ids, const std::string& address, bool has_begun);

/// How the peer named a call, by its initial metadata once something has come, and by its trailing ones once it has ended.
CallIds IdsOf(const grpc::ClientContext& context, bool has_ended);

}  // namespace lepton::internal
