#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lepton {

/// The codes of gRPC, with its numbers.
enum class StatusCode {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

/// The name of a code as gRPC writes it, for example "INVALID_ARGUMENT"; "UNKNOWN" for a number that is none.
std::string_view CodeName(StatusCode code);

/// The class of an error, as docs/errors.md has it: what went wrong, and with it what can be done.
enum class ErrorKind {
  kInvalidRequest,    ///< The request is wrong in itself; change it.
  kNotFound,          ///< No such model, revision or resumable call.
  kUnsupported,       ///< A part of the interface that this release or model refuses.
  kForbidden,         ///< Not for this caller.
  kOverloaded,        ///< Full for now; come back after `retry_after`.
  kUnavailable,       ///< Nobody can answer now, or the one who did is lost.
  kDeadlineExceeded,  ///< The time of the call is over.
  kCancelled,         ///< The call was given up.
  kQuarantined,       ///< The request ended workers and is set aside.
  kConflict,          ///< A state of the other side forbids it.
  kBadModel,          ///< A model that cannot be served.
  kInternal,          ///< A fault of the cluster; report it with the request id.
};

/// What an error says. Everything but `code` and `message` may be empty.
struct ErrorInfo {
  StatusCode code = StatusCode::kUnknown;
  /// For people: what, where, what to do next.
  std::string message = {};
  /// For programs: a name of docs/errors.md, or one of a newer server, kept as it is. Empty when nothing of Lepton answered
  /// (a proxy, gRPC itself); "UNREACHABLE" when nothing answered at all.
  std::string reason = {};
  /// The request field to blame, in proto spelling, for example "sampling.top_p".
  std::string field = {};
  /// How long to wait before it may help to ask again.
  std::optional<std::chrono::nanoseconds> retry_after = std::nullopt;
  /// The request in logs and traces of the cluster.
  std::string request_id = {};
  /// What to give to `lepton trace`.
  std::string trace_id = {};
  /// What the server said about asking another worker; without its word the kind decides.
  std::optional<bool> retryable = std::nullopt;
};

/// Every refusal and failure of a call. Nothing else is thrown by this library, but for `std::bad_alloc`.
class Error : public std::runtime_error {
 public:
  explicit Error(ErrorInfo info);

  StatusCode code() const { return info_.code; }
  std::string_view code_name() const { return CodeName(info_.code); }
  ErrorKind kind() const { return kind_; }
  bool Is(ErrorKind kind) const { return kind_ == kind; }
  const std::string& message() const { return info_.message; }
  const std::string& reason() const { return info_.reason; }
  const std::string& field() const { return info_.field; }
  std::optional<std::chrono::nanoseconds> retry_after() const { return info_.retry_after; }
  const std::string& request_id() const { return info_.request_id; }
  const std::string& trace_id() const { return info_.trace_id; }
  /// Whether another worker may answer the same request.
  bool retryable() const;

  const ErrorInfo& info() const { return info_; }

 private:
  ErrorInfo info_;
  ErrorKind kind_;
};

}  // namespace lepton
