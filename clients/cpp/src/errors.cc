#include "errors.h"

#include <utility>

namespace lepton::internal {

Error InvalidArgument(std::string message, std::string reason, std::string field) {
  return Error({.code = StatusCode::kInvalidArgument,
                .message = std::move(message),
                .reason = std::move(reason),
                .field = std::move(field)});
}

Error Cancelled() {
  return Error({.code = StatusCode::kCancelled, .message = "the call was cancelled", .reason = "CLIENT_GONE"});
}

Error StreamLost(std::string message) {
  return Error({.code = StatusCode::kUnavailable, .message = std::move(message), .reason = "WORKER_LOST"});
}

Error StreamFault(std::string message) {
  return Error({.code = StatusCode::kInternal, .message = std::move(message), .reason = "STREAM_FAULT"});
}

bool IsLostConnection(const Error& error) {
  return error.reason() == "UNREACHABLE" || error.reason() == "CLIENT_GONE";
}

}  // namespace lepton::internal
