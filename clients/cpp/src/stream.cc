#include "lepton/stream.h"

#include <utility>

#include "call.h"
#include "event_source.h"

namespace lepton {

Stream::Stream(std::shared_ptr<internal::Call> call, std::unique_ptr<internal::EventSource> events)
    : call_(std::move(call)), events_(std::move(events)) {}

Stream::Stream(Stream&&) noexcept = default;

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this == &other) return *this;
  Cancel();
  events_ = std::move(other.events_);
  call_ = std::move(other.call_);
  return *this;
}

Stream::~Stream() { Cancel(); }

bool Stream::Next(v1::Event& event) {
  if (events_ == nullptr) return false;
  try {
    if (events_->Next(event)) return true;
  } catch (const Error&) {
    call_->End();
    events_.reset();
    throw;
  }
  call_->End();
  events_.reset();
  return false;
}

void Stream::Cancel() noexcept {
  if (call_ != nullptr) call_->Cancel();
}

const std::string& Stream::request_id() const { return call_->ids.request_id; }

const std::string& Stream::trace_id() const { return call_->ids.trace_id; }

}  // namespace lepton
