#pragma once

#include <string>

#include "lepton/error.h"

// The errors that the client itself has to tell, and what it asks of others.
namespace lepton::internal {

/// Options or arguments that cannot hold.
Error InvalidArgument(std::string message, std::string reason, std::string field);

/// `Cancel` was called.
Error Cancelled();

/// Whoever sent the stream is gone, or left it unfinished.
Error StreamLost(std::string message);

/// Events that break the rules of a stream.
Error StreamFault(std::string message);

/// Nothing answered; or the call was torn down by nobody's wish: a process that dies may send CANCELLED on its way out.
bool IsLostConnection(const Error& error);

}  // namespace lepton::internal
