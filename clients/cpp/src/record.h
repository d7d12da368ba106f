#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lepton/v1/inference.pb.h"

namespace lepton::internal {

/// What one stream has told, as far as another worker needs it to go on.
class Record {
 public:
  /// `num_choices`: those that the request asks for.
  explicit Record(uint32_t num_choices);

  /// Notes the next event. Throws `Error` (STREAM_FAULT) for one that may not come now; it is no part of the stream then.
  void Take(const v1::Event& event);

  bool has_begun() const { return started_.has_value(); }
  bool finished() const { return finished_; }

  /// What the next worker is told, beside the request. Only of a stream that has begun. `attempt` counts the workers that
  /// were given up, of which `from_worker_id` was the last.
  v1::Continuation Continue(uint32_t attempt, const std::string& from_worker_id) const;

 private:
  void TakeDelta(const v1::Delta& delta);
  v1::ContinuedChoice& ChoiceAt(uint32_t index);

  const uint32_t num_choices_;
  v1::Continuation so_far_;  // next_seq, and the choices up to the last one that has begun
  std::optional<v1::Started> started_;
  bool finished_ = false;
};

}  // namespace lepton::internal
