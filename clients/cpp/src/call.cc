#include "call.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "metadata.h"

namespace lepton::internal {
namespace {

constexpr std::chrono::seconds kAbortMax{2};
constexpr std::chrono::hours kTimeoutMax{24 * 365};  // "for ever" must not overflow a time point

std::vector<std::shared_ptr<Peer>> PeersAt(const std::vector<std::string>& addresses, const PeerFactory& make_peer) {
  std::vector<std::shared_ptr<Peer>> peers;
  for (const std::string& address : addresses) peers.push_back(make_peer(address));
  return peers;
}

}  // namespace

Core::Core(ClientOptions options, const PeerFactory& make_peer, std::shared_ptr<Clock> clock,
           std::function<double()> draw)
    : options(std::move(options)),
      metadata(MetadataOf(this->options)),
      routers(PeersAt(this->options.addresses, make_peer)),
      workers(make_peer),
      clock(std::move(clock)),
      draw(std::move(draw)) {}

Call::Call(std::shared_ptr<Core> core, const CallOptions& options)
    : core_(std::move(core)),
      ends_at_(core_->clock->Now() +
               std::min<std::chrono::milliseconds>(options.timeout.value_or(core_->options.timeout), kTimeoutMax)),
      metadata_(core_->metadata),
      route_(core_->routers) {
  if (core_->options.traceparent) AddTraceparent(core_->options.traceparent(), metadata_);
  core_->budget.Earn();
}

std::chrono::nanoseconds Call::Left() const {
  return std::max<std::chrono::nanoseconds>(ends_at_ - core_->clock->Now(), std::chrono::nanoseconds::zero());
}

Attempt Call::NextAttempt(const Metadata& more) {
  cancellation_.Check();
  Attempt attempt{.timeout = Left(), .metadata = metadata_, .cancellation = cancellation_};
  attempt.metadata.insert(attempt.metadata.end(), more.begin(), more.end());
  return attempt;
}

void Call::Cancel() noexcept {
  if (has_ended_.exchange(true)) return;
  try {
    cancellation_.Cancel();
    if (const std::string token = resume_token(); !token.empty()) Abort(token);
  } catch (const std::exception&) {
    // Nobody is there to be told; the call ends by itself when its time is over.
  }
}

void Call::set_resume_token(const std::string& token) {
  const std::lock_guard lock(token_mutex_);
  resume_token_ = token;
}

std::string Call::resume_token() const {
  const std::lock_guard lock(token_mutex_);
  return resume_token_;
}

void Call::Abort(const std::string& token) {
  v1::AbortRequest request;
  request.set_resume_token(token);
  // The call's own is spent.
  Cancellation uncancelled;
  const Attempt attempt{.timeout = kAbortMax, .metadata = metadata_, .cancellation = uncancelled};
  Route(core_->routers).AskOne([&](Peer& router) { return router.Abort(request, attempt); });
}

}  // namespace lepton::internal
