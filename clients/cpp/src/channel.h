#pragma once

#include <memory>
#include <string>

#include "lepton/options.h"

namespace grpc {
class Channel;
}

namespace lepton::internal {

/// Throws `Error` (INVALID_ARGUMENT) unless `address` is HOST:PORT or [IPV6]:PORT.
void CheckAddress(const std::string& address);

/// A channel of its own to `address`; connects on first use.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials);

}  // namespace lepton::internal
