#include "lepton/error.h"

#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include "grpc_status.h"
#include "lepton/client/rpc_status.pb.h"

namespace lepton::internal {
namespace {

// As a server packs it: google.rpc.Status with details under their own names.
class Details {
 public:
  template <class Message>
  Details& Add(const std::string& name, const Message& message) {
    google::protobuf::Any& detail = *status_.add_details();
    detail.set_type_url("type.googleapis.com/" + name);
    detail.set_value(message.SerializeAsString());
    return *this;
  }
  std::string str() const { return status_.SerializeAsString(); }

 private:
  client::RpcStatus status_;
};

client::RpcErrorInfo Info(const std::string& domain, const std::string& reason) {
  client::RpcErrorInfo info;
  info.set_domain(domain);
  info.set_reason(reason);
  return info;
}

Error Read(grpc::StatusCode code, const std::string& details, bool has_begun = false) {
  return FromStatus(grpc::Status(code, "the message", details), {.request_id = "r1", .trace_id = "t1"}, "a:1", has_begun);
}

TEST(Error, ReadsReasonFieldAndDelay) {
  client::RpcErrorInfo info = Info("lepton", "QUEUE_FULL");
  (*info.mutable_metadata())["field"] = "sampling.n";
  (*info.mutable_metadata())["retryable"] = "false";
  client::RpcRetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  const Error error = Read(grpc::StatusCode::RESOURCE_EXHAUSTED,
                           Details().Add("google.rpc.ErrorInfo", info).Add("google.rpc.RetryInfo", retry).str());
  EXPECT_EQ(error.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(error.code_name(), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(error.kind(), ErrorKind::kOverloaded);
  EXPECT_EQ(error.reason(), "QUEUE_FULL");
  EXPECT_EQ(error.field(), "sampling.n");
  EXPECT_EQ(error.retry_after(), std::chrono::milliseconds(1500));
  EXPECT_EQ(error.request_id(), "r1");
  EXPECT_EQ(error.trace_id(), "t1");
  EXPECT_FALSE(error.retryable());
  EXPECT_STREQ(error.what(), "the message (QUEUE_FULL, sampling.n)");
}

TEST(Error, KeepsAReasonThatItDoesNotKnow) {
  const Error error = Read(grpc::StatusCode::INVALID_ARGUMENT,
                           Details().Add("google.rpc.ErrorInfo", Info("lepton", "OF_TOMORROW")).str());
  EXPECT_EQ(error.reason(), "OF_TOMORROW");
  EXPECT_EQ(error.kind(), ErrorKind::kInvalidRequest);
}

TEST(Error, TakesNoReasonOfOthers) {
  const std::string details = Details().Add("google.rpc.ErrorInfo", Info("somebody.else", "THEIRS")).str();
  EXPECT_EQ(Read(grpc::StatusCode::RESOURCE_EXHAUSTED, details).reason(), "");
  EXPECT_EQ(Read(grpc::StatusCode::RESOURCE_EXHAUSTED, "\xff garbage").reason(), "");
}

TEST(Error, SaysWhoIsGone) {
  EXPECT_EQ(Read(grpc::StatusCode::UNAVAILABLE, "").reason(), "UNREACHABLE");
  EXPECT_EQ(Read(grpc::StatusCode::UNAVAILABLE, "", true).reason(), "WORKER_LOST");
  EXPECT_EQ(Read(grpc::StatusCode::DEADLINE_EXCEEDED, "").reason(), "DEADLINE_EXCEEDED");
}

TEST(Error, TellsClassesOfOneCodeApartByReason) {
  const auto kind = [](const std::string& reason) {
    return Error({.code = StatusCode::kFailedPrecondition, .reason = reason}).kind();
  };
  EXPECT_EQ(kind("POISON_REQUEST"), ErrorKind::kQuarantined);
  EXPECT_EQ(kind("MODEL_FILE_MISSING"), ErrorKind::kBadModel);
  EXPECT_EQ(kind("PORT_IN_USE"), ErrorKind::kConflict);
}

TEST(Error, NamesACodeOfTomorrow) { EXPECT_EQ(CodeName(static_cast<StatusCode>(99)), "UNKNOWN"); }

}  // namespace
}  // namespace lepton::internal
