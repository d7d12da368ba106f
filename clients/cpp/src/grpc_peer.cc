#include "grpc_peer.h"

#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include "channel.h"
#include "grpc_status.h"
#include "grpc_stream.h"

namespace lepton::internal {
namespace {

using Stub = v1::InferenceService::Stub;

class GrpcPeer final : public Peer {
 public:
  GrpcPeer(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials)
      : address_(address), stub_(v1::InferenceService::NewStub(OpenChannel(address, credentials))) {}

  std::unique_ptr<PeerStream> Generate(const v1::GenerateRequest& request, const Attempt& attempt) override {
    return std::make_unique<GrpcStream>(*stub_, request, attempt, address_);
  }
  v1::PickResponse Pick(const v1::PickRequest& request, const Attempt& attempt) override {
    return Unary(&Stub::Pick, request, attempt);
  }
  v1::TokenizeResponse Tokenize(const v1::TokenizeRequest& request, const Attempt& attempt) override {
    return Unary(&Stub::Tokenize, request, attempt);
  }
  v1::DetokenizeResponse Detokenize(const v1::DetokenizeRequest& request, const Attempt& attempt) override {
    return Unary(&Stub::Detokenize, request, attempt);
  }
  v1::CountTokensResponse CountTokens(const v1::CountTokensRequest& request, const Attempt& attempt) override {
    return Unary(&Stub::CountTokens, request, attempt);
  }
  v1::ListModelsResponse ListModels(const v1::ListModelsRequest& request, const Attempt& attempt) override {
    return Unary(&Stub::ListModels, request, attempt);
  }
  v1::AbortResponse Abort(const v1::AbortRequest& request, const Attempt& attempt) override {
    return Unary(&Stub::Abort, request, attempt);
  }

 private:
  template <class Request, class Response>
  Response Unary(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*), const Request& request,
                 const Attempt& attempt) {
    grpc::ClientContext context;
    Prepare(attempt, context);
    const Cancellation::Hook hook(attempt.cancellation, [&context] { context.TryCancel(); });
    Response response;
    const grpc::Status status = ((*stub_).*method)(&context, request, &response);
    if (!status.ok()) throw FromStatus(status, IdsOf(context, true), address_, false);
    return response;
  }

  const std::string address_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::shared_ptr<Peer> MakeGrpcPeer(const std::string& address,
                                   const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  CheckAddress(address);
  return std::make_shared<GrpcPeer>(address, credentials);
}

}  // namespace lepton::internal
