#pragma once

#include <lepton/options.h>
#include <lepton/text.h>

#include <google/protobuf/message.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace driver {

/// A line of stdin, in the words of the client.
struct Command {
  std::string id;
  std::string op;
  nlohmann::json request;
  lepton::ClientOptions options;
  std::optional<size_t> cancel_after_events;
};

/// Throws `std::exception` for what is no command.
Command CommandOf(const nlohmann::json& line);

/// Reads the JSON form of protobuf. Throws `std::runtime_error`.
void Parse(const nlohmann::json& request, google::protobuf::Message& message);

/// The arguments of `Chat`, and those of `Chat` and `Complete`.
std::vector<lepton::Message> MessagesOf(const nlohmann::json& request);
lepton::TextOptions TextOptionsOf(const nlohmann::json& request);

}  // namespace driver
