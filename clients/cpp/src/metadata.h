#pragma once

#include <string>

#include "lepton/options.h"

namespace lepton::internal {

/// Request metadata: proves to a worker that a router has picked it for this call.
inline constexpr char kTicketKey[] = "lepton-ticket";

/// What goes with every call of a client. Throws `Error` (INVALID_ARGUMENT) for what HTTP/2 does not allow: gRPC would end
/// the program over it.
Metadata MetadataOf(const ClientOptions& options);

/// Adds the caller's trace context; one that cannot be sent is left out, since no call should fail for its trace.
void AddTraceparent(const std::string& traceparent, Metadata& metadata);

}  // namespace lepton::internal
