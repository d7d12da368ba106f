#pragma once

#include <chrono>

#include "cancellation.h"

namespace lepton::internal {

using TimePoint = std::chrono::steady_clock::time_point;

/// Where time comes from; tests bring their own.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const { return std::chrono::steady_clock::now(); }
  /// Sleeps, at most until the call is cancelled.
  virtual void Sleep(std::chrono::nanoseconds time, Cancellation& cancellation) { cancellation.SleepFor(time); }
};

}  // namespace lepton::internal
