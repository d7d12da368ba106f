#include "lepton/text.h"

#include <utility>

namespace lepton {

const std::string& Completion::text() const {
  static const std::string kNone;
  return choices.empty() ? kNone : choices.front().text;
}

void Completion::Take(const v1::Event& event) {
  if (event.has_started()) {
    request_id = event.started().request_id();
  } else if (event.has_delta()) {
    const v1::Delta& delta = event.delta();
    if (choices.size() <= delta.index()) choices.resize(delta.index() + 1);
    Choice& choice = choices[delta.index()];
    choice.text += delta.text();
    if (delta.has_end()) choice.finish_reason = FinishReasonName(delta.end().reason());
  } else if (event.has_finished()) {
    usage = event.finished().usage();
    timings = event.finished().timings();
  }
}

std::string FinishReasonName(v1::FinishReason reason) {
  constexpr std::string_view kPrefix = "FINISH_REASON_";
  if (reason == v1::FINISH_REASON_UNSPECIFIED) return {};
  const std::string& name = v1::FinishReason_Name(reason);
  return name.empty() ? std::to_string(reason) : name.substr(kPrefix.size());
}

TextStream::TextStream(Stream stream) : stream_(std::move(stream)) {}

bool TextStream::Next(TextPiece& piece) {
  v1::Event event;
  while (stream_.Next(event)) {
    completion_.Take(event);
    completion_.trace_id = stream_.trace_id();
    if (!event.has_delta() || event.delta().text().empty()) continue;
    piece.text = std::move(*event.mutable_delta()->mutable_text());
    piece.choice = event.delta().index();
    return true;
  }
  return false;
}

Completion TextStream::Collect() {
  TextPiece ignored;
  while (Next(ignored)) continue;
  return completion_;
}
}  // namespace lepton
