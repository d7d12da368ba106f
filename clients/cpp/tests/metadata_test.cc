#include "metadata.h"

#include <gtest/gtest.h>

#include "fakes.h"
#include "lepton/client.h"

namespace lepton::internal {
namespace {

TEST(Metadata, CarriesKeyCallerAndMore) {
  const Metadata wanted = {{"authorization", "Bearer k"}, {"lepton-caller", "alice"}, {"x-team", "blue"}};
  EXPECT_EQ(MetadataOf({.api_key = "k", .metadata = {{"x-team", "blue"}}, .caller = "alice"}), wanted);
}

TEST(Metadata, RefusesWhatGrpcWouldDieOf) {
  const auto field = [](ClientOptions options) { return ErrorOf([&] { MetadataOf(options); }).field(); };
  EXPECT_EQ(field({.api_key = "two\nlines"}), "api_key");
  EXPECT_EQ(field({.caller = "zo\xc3\xab"}), "caller");
  EXPECT_EQ(field({.metadata = {{"Upper", "x"}}}), "metadata");
  EXPECT_EQ(field({.metadata = {{"", "x"}}}), "metadata");
}

TEST(Metadata, TakesAnyBytesUnderABinaryKey) {
  EXPECT_EQ(MetadataOf({.metadata = {{"x-bin", "\n"}}}).size(), 1U);
}

TEST(Metadata, LeavesATraceOutThatCannotBeSent) {
  Metadata metadata;
  AddTraceparent("", metadata);
  AddTraceparent("00-\n", metadata);
  EXPECT_TRUE(metadata.empty());
  AddTraceparent("00-4b-00-01", metadata);
  EXPECT_EQ(metadata, Metadata({{"traceparent", "00-4b-00-01"}}));
}

TEST(ClientOptions, AreCheckedAtOnce) {
  const auto error = [](ClientOptions options) { return ErrorOf([&] { Client client(std::move(options)); }); };
  EXPECT_EQ(error({}).field(), "addresses");
  EXPECT_EQ(error({.addresses = {"nowhere"}}).field(), "addresses");
  EXPECT_EQ(error({.addresses = {"a:1"}, .resume = true, .direct = true}).reason(), "FIELDS_CONTRADICT");
}

}  // namespace
}  // namespace lepton::internal
