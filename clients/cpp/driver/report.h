#pragma once

#include <lepton/error.h>
#include <lepton/text.h>

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

namespace driver {

/// The JSON form of protobuf.
nlohmann::json ToJson(const google::protobuf::Message& message);

/// What the judge wants to know of an error.
nlohmann::json ToJson(const lepton::Error& error);

/// Writes texts and finish reasons of an answer into its report.
void Put(const lepton::Completion& completion, nlohmann::json& report);

}  // namespace driver
