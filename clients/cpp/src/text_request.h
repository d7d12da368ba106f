#pragma once

#include <string_view>
#include <vector>

#include "lepton/text.h"
#include "lepton/v1/inference.pb.h"

namespace lepton::internal {

/// The request that goes on with `text`.
v1::GenerateRequest CompleteRequest(std::string_view text, const TextOptions& options);

/// The request that answers a conversation. Throws `Error` (INVALID_ARGUMENT) for a role that is none.
v1::GenerateRequest ChatRequest(const std::vector<Message>& messages, const TextOptions& options);

}  // namespace lepton::internal
