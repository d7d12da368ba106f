#pragma once

#include <chrono>

#include "call.h"
#include "lepton/error.h"

namespace lepton::internal {

constexpr int kAttemptsMax = 3;
constexpr std::chrono::milliseconds kBackoffFirst{100};
constexpr std::chrono::milliseconds kBackoffMax{2000};

/// How long to wait after `failures` failures in a row (from 1), the last of which was `error`: full jitter, `jitter` in
/// [0, 1) being the draw, and at least what the server asked for.
std::chrono::nanoseconds Backoff(int failures, const Error& error, double jitter);

/// Whether the call may be made again: the cluster had no room, or nobody took it. Not for what gRPC itself found too
/// large, which has no reason.
bool IsTransient(const Error& error);

/// Waits before another try, or rethrows `error` when the wait would outlast the call.
void PauseOrThrow(Call& call, int failures, const Error& error);

/// `attempt()`, up to `kAttemptsMax` times while its errors are transient, the budget pays and the deadline allows.
/// What it gives out must not be lost with a failure: nothing has reached the caller yet.
template <class Try>
auto WithRetries(Call& call, Try attempt) {
  Core& core = call.core();
  for (int failures = 1;; ++failures) {
    call.cancellation().Check();
    try {
      return attempt();
    } catch (const Error& error) {
      call.cancellation().Check();
      if (!core.options.retry || failures == kAttemptsMax || !IsTransient(error) || !core.budget.Spend()) throw;
      PauseOrThrow(call, failures, error);
    }
  }
}

}  // namespace lepton::internal
