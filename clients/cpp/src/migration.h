#pragma once

#include <array>
#include <cstddef>

#include "lepton/error.h"

// May a direct stream go on with another worker? The rules of the router (docs/direct.md).
namespace lepton::internal {

/// How one worker's part of a stream came to its end.
enum class Break {
  kFinal,     ///< The request's own fault, its deadline, its caller: another worker would end it alike.
  kLoss,      ///< The worker died, froze, failed, or cut the stream.
  kHandOver,  ///< The worker leaves, and asks for others to finish its streams.
  kRefusal,   ///< The worker was asked to go on, and declined before its first event.
};

/// What `error` means for the stream. `asked_to_go_on`: the worker has sent nothing yet.
Break BreakOf(const Error& error, bool asked_to_go_on);

/// How often one stream has moved, by why, and whether it may again.
class Moves {
 public:
  /// Notes a move after `how`; false when it may not be made: `how` is final, or has come too often.
  bool Count(Break how);

  /// Which continuation is next or under way, from 1; one that was refused is sent again as the same.
  unsigned attempt() const { return made(Break::kLoss) + made(Break::kHandOver); }

 private:
  unsigned made(Break how) const { return made_[static_cast<size_t>(how)]; }

  std::array<unsigned, 4> made_ = {};
};

}  // namespace lepton::internal
