#include "retry.h"

#include <algorithm>

#include "errors.h"

namespace lepton::internal {

using std::chrono::nanoseconds;

nanoseconds Backoff(int failures, const Error& error, double jitter) {
  constexpr int kDoublingsMax = 10;  // far beyond the longest wait, far below an overflow
  const nanoseconds longest = std::min<nanoseconds>(kBackoffMax, kBackoffFirst * (1 << std::min(failures - 1, kDoublingsMax)));
  const auto drawn = std::chrono::duration_cast<nanoseconds>(longest * jitter);
  return std::max(drawn, error.retry_after().value_or(nanoseconds::zero()));
}

bool IsTransient(const Error& error) {
  return error.Is(ErrorKind::kUnavailable) || IsLostConnection(error) ||
          (error.Is(ErrorKind::kOverloaded) && !error.reason().empty());
}

void PauseOrThrow(Call& call, int failures, const Error& error) {
  const nanoseconds wait = Backoff(failures, error, call.core().draw());
  if (wait >= call.Left()) throw error;
  call.core().clock->Sleep(wait, call.cancellation());
  call.cancellation().Check();
}

}  // namespace lepton::internal
