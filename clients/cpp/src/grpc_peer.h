#pragma once

#include <memory>
#include <string>

#include "lepton/options.h"
#include "peer.h"

namespace lepton::internal {

/// The peer at HOST:PORT. Throws `Error` (INVALID_ARGUMENT) for what is no address.
std::shared_ptr<Peer> MakeGrpcPeer(const std::string& address,
                                   const std::shared_ptr<grpc::ChannelCredentials>& credentials);

}  // namespace lepton::internal
