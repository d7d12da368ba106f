#include "metadata.h"

#include <algorithm>
#include <string_view>

#include "errors.h"

namespace lepton::internal {
namespace {

constexpr std::string_view kKeyCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-_.";

bool IsKey(const std::string& key) {
  return !key.empty() && key.find_first_not_of(kKeyCharacters) == std::string::npos;
}

bool IsBinary(std::string_view key) {
  constexpr std::string_view kSuffix = "-bin";
  return key.size() > kSuffix.size() && key.substr(key.size() - kSuffix.size()) == kSuffix;
}

bool IsText(const std::string& value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

void Add(std::string key, std::string value, const std::string& field, Metadata& metadata) {
  if (!IsKey(key)) {
    throw InvalidArgument("a metadata key has characters of a-z 0-9 - _ . only", "FIELD_MALFORMED", field);
  }
  if (!IsBinary(key) && !IsText(value)) {
    throw InvalidArgument("the value of metadata " + key + " has printable ASCII characters only", "FIELD_MALFORMED",
                          field);
  }
  metadata.emplace_back(std::move(key), std::move(value));
}

}  // namespace

Metadata MetadataOf(const ClientOptions& options) {
  Metadata metadata;
  if (!options.api_key.empty()) Add("authorization", "Bearer " + options.api_key, "api_key", metadata);
  if (!options.caller.empty()) Add("lepton-caller", options.caller, "caller", metadata);
  for (const auto& [key, value] : options.metadata) Add(key, value, "metadata", metadata);
  return metadata;
}

void AddTraceparent(const std::string& traceparent, Metadata& metadata) {
  if (!traceparent.empty() && IsText(traceparent)) metadata.emplace_back("traceparent", traceparent);
}

}  // namespace lepton::internal
