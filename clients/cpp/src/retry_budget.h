#pragma once

#include <algorithm>
#include <mutex>

namespace lepton::internal {

/// What keeps retries from multiplying load when all calls fail: each call earns a tenth of a retry, and at most ten are
/// saved up. A new client has all ten. May be used by many threads.
class RetryBudget {
 public:
  void Earn() {
    const std::lock_guard lock(mutex_);
    tenths_ = std::min(tenths_ + 1, kTenthsMax);
  }

  /// Takes one retry; false when there is none.
  bool Spend() {
    const std::lock_guard lock(mutex_);
    if (tenths_ < kTenthsPerRetry) return false;
    tenths_ -= kTenthsPerRetry;
    return true;
  }

 private:
  static constexpr int kTenthsPerRetry = 10;
  static constexpr int kTenthsMax = 100;

  std::mutex mutex_;
  int tenths_ = kTenthsMax;
};

}  // namespace lepton::internal
