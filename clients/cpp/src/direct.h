#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "call.h"
#include "event_source.h"
#include "migration.h"
#include "record.h"

namespace lepton::internal {

/// Streams from the worker that a router picks. When the worker is lost, the router picks another one, which goes on where
/// the first one was. docs/direct.md says it in words.
class DirectEvents final : public EventSource {
 public:
  /// A stream that has begun and says nothing for so long is given up. Before its first event nobody can say how long a
  /// prompt takes: there the deadline and the pings of the connection have to do.
  static constexpr std::chrono::seconds kSilenceMax{10};

  DirectEvents(Call& call, v1::GenerateRequest request);
  bool Next(v1::Event& event) override;

 private:
  void Start();
  void Pick();
  v1::GenerateRequest ForWorker() const;
  bool Read(v1::Event& event);
  void MoveOrThrow(const Error& error);
  Error Meant(const Error& error) const;

  Call& call_;
  const bool hides_ids_;
  v1::PickRequest asked_;  // grows with each worker that is lost
  Record record_;
  Moves moves_;
  v1::PickResponse picked_;              // the worker of this attempt
  std::unique_ptr<PeerStream> stream_;   // none: between two workers
  bool has_answered_ = false;            // the worker of this attempt has
  std::optional<v1::Continuation> continuation_;  // of a stream that has begun and broken
  std::optional<Error> failure_;         // what happened to the stream last
};

}  // namespace lepton::internal
