#include "lepton/error.h"

#include <array>
#include <set>
#include <utility>

namespace lepton {
namespace {

constexpr std::array<std::string_view, 17> kCodeNames = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

// Three classes share FAILED_PRECONDITION; their reasons tell them apart.
ErrorKind PreconditionKind(const std::string& reason) {
  static const std::set<std::string> kBadModel = {
      "MODEL_FILE_MISSING",      "MODEL_FILE_INVALID",    "MODEL_ARCHITECTURE_UNSUPPORTED", "MODEL_GRAPH_UNSUPPORTED",
      "MODEL_TOKENIZER_INVALID", "MODEL_GOLDEN_MISMATCH", "PROVIDER_UNAVAILABLE",
  };
  if (reason == "POISON_REQUEST") return ErrorKind::kQuarantined;
  return kBadModel.count(reason) != 0 ? ErrorKind::kBadModel : ErrorKind::kConflict;
}

ErrorKind KindOf(const ErrorInfo& info) {
  switch (info.code) {
    case StatusCode::kInvalidArgument:
      return ErrorKind::kInvalidRequest;
    case StatusCode::kNotFound:
      return ErrorKind::kNotFound;
    case StatusCode::kUnimplemented:
      return ErrorKind::kUnsupported;
    case StatusCode::kPermissionDenied:
    case StatusCode::kUnauthenticated:
      return ErrorKind::kForbidden;
    case StatusCode::kResourceExhausted:
      return ErrorKind::kOverloaded;
    case StatusCode::kUnavailable:
      return ErrorKind::kUnavailable;
    case StatusCode::kDeadlineExceeded:
      return ErrorKind::kDeadlineExceeded;
    case StatusCode::kCancelled:
      return ErrorKind::kCancelled;
    case StatusCode::kFailedPrecondition:
      return PreconditionKind(info.reason);
    default:
      return ErrorKind::kInternal;
  }
}

std::string What(const ErrorInfo& info) {
  std::string what = info.message + " (";
  what += info.reason.empty() ? std::string(CodeName(info.code)) : info.reason;
  if (!info.field.empty()) what += ", " + info.field;
  return what + ")";
}

}  // namespace

std::string_view CodeName(StatusCode code) {
  const auto number = static_cast<size_t>(code);
  return kCodeNames[number < kCodeNames.size() ? number : static_cast<size_t>(StatusCode::kUnknown)];
}

Error::Error(ErrorInfo info)
    : std::runtime_error(What(info)), info_(std::move(info)), kind_(KindOf(info_)) {}

bool Error::retryable() const {
  return info_.retryable.value_or(kind_ == ErrorKind::kOverloaded || kind_ == ErrorKind::kUnavailable ||
                                  kind_ == ErrorKind::kInternal);
}

}  // namespace lepton
