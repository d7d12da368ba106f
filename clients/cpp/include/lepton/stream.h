#pragma once

#include <iterator>
#include <memory>
#include <string>

#include "lepton/error.h"
#include "lepton/input_iterator.h"
#include "lepton/v1/inference.pb.h"

namespace lepton {

namespace internal {
class EventSource;
class Call;
}  // namespace internal

/// One answer, event by event: each `seq` once and in order. It ends after `Finished`, or with an `Error`.
///
///     for (const lepton::v1::Event& event : client.Generate(request)) …
///
/// Leaving the loop, or destroying the stream, before the end stops the compute. One thread at a time reads; `Cancel` may
/// be called by any. A stream may outlive its client.
class Stream {
 public:
  using iterator = InputIterator<Stream, v1::Event>;

  Stream(std::shared_ptr<internal::Call> call, std::unique_ptr<internal::EventSource> events);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  /// Cancels what has not ended.
  ~Stream();

  /// Waits for the next event. False: the stream has ended, `event` is as it was. Throws `Error`, once; after that the
  /// stream has ended.
  bool Next(v1::Event& event);

  /// Ends the call now; the worker stops computing. Whoever waits in `Next` gets an `Error` of kind `kCancelled`. A
  /// resumable call is ended by `Abort`, which takes up to 2 s when routers do not answer. Calling it again, or after
  /// the end, does nothing.
  void Cancel() noexcept;

  iterator begin() { return iterator(*this); }
  std::default_sentinel_t end() const { return {}; }

  /// The request in logs and traces; known from the first event on.
  const std::string& request_id() const;
  /// What to give to `lepton trace`, likewise.
  const std::string& trace_id() const;

 private:
  std::shared_ptr<internal::Call> call_;
  std::unique_ptr<internal::EventSource> events_;  // none: ended
};

}  // namespace lepton
