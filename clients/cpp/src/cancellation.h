#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

namespace lepton::internal {

/// Whether one call was given up. `Cancel` may come from any thread, while the call's own thread sleeps or waits for the
/// network.
class Cancellation {
 public:
  /// While it lives, `stop` is what ends the current wait for the network. One at a time.
  class Hook {
   public:
    Hook(Cancellation& cancellation, std::function<void()> stop);
    ~Hook();
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

   private:
    Cancellation& cancellation_;
  };

  /// Wakes whoever waits. Calling it again does nothing.
  void Cancel();

  bool cancelled() const;

  /// Throws `Error` of kind `kCancelled` when it was.
  void Check() const;

  /// Sleeps, at most until it is cancelled.
  void SleepFor(std::chrono::nanoseconds time);

 private:
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  bool cancelled_ = false;
  std::function<void()> stop_;
};

}  // namespace lepton::internal
