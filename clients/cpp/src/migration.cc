#include "migration.h"

#include <set>
#include <string>

namespace lepton::internal {
namespace {

constexpr std::array<unsigned, 4> kMost = {0, 2, 16, 2};  // in the order of `Break`

// The worker does not want our addition to the request, is not the one that we took it for, or we came too late.
bool Declines(const Error& error) {
  static const std::set<std::string> kNotTheOne = {"CONTINUATION_UNSUPPORTED", "MODEL_NOT_FOUND", "REVISION_NOT_FOUND",
                                                   "TICKET_EXPIRED"};
  constexpr char kOurs[] = "continuation";
  return error.field().rfind(kOurs, 0) == 0 || kNotTheOne.count(error.reason()) != 0 ||
         error.Is(ErrorKind::kOverloaded);
}

}  // namespace

Break BreakOf(const Error& error, bool asked_to_go_on) {
  if (asked_to_go_on && Declines(error)) return Break::kRefusal;
  // The same weights would give the same numbers elsewhere.
  if (!error.retryable() || error.reason() == "MODEL_OUTPUT_INVALID") return Break::kFinal;
  if (error.Is(ErrorKind::kUnavailable) && error.reason() != "WORKER_LOST") {
    return asked_to_go_on ? Break::kRefusal : Break::kHandOver;
  }
  return Break::kLoss;
}

bool Moves::Count(Break how) {
  unsigned& made = made_[static_cast<size_t>(how)];
  if (made == kMost[static_cast<size_t>(how)]) return false;
  ++made;
  return true;
}

}  // namespace lepton::internal
