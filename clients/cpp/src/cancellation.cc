#include "cancellation.h"

#include <utility>

#include "errors.h"

namespace lepton::internal {

Cancellation::Hook::Hook(Cancellation& cancellation, std::function<void()> stop) : cancellation_(cancellation) {
  const std::lock_guard lock(cancellation_.mutex_);
  if (cancellation_.cancelled_) stop();
  cancellation_.stop_ = std::move(stop);
}

Cancellation::Hook::~Hook() {
  const std::lock_guard lock(cancellation_.mutex_);
  cancellation_.stop_ = nullptr;
}

void Cancellation::Cancel() {
  const std::lock_guard lock(mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  // Under the lock, so that what it stops cannot go away meanwhile.
  if (stop_) stop_();
  woken_.notify_all();
}

bool Cancellation::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

void Cancellation::Check() const {
  if (cancelled()) throw Cancelled();
}

void Cancellation::SleepFor(std::chrono::nanoseconds time) {
  std::unique_lock lock(mutex_);
  woken_.wait_for(lock, time, [this] { return cancelled_; });
}

}  // namespace lepton::internal
