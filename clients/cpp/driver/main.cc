// The client under the conformance cases: a command per line in, a report per line out (tests/conformance/README.md).

#include <lepton/client.h>

#include <exception>
#include <iostream>
#include <string>

#include "command.h"
#include "report.h"

namespace driver {
namespace {

using nlohmann::json;

void Generate(lepton::Client& client, const Command& command, json& report) {
  lepton::v1::GenerateRequest request;
  Parse(command.request, request);
  lepton::Completion completion;
  report["events"] = json::array();
  try {
    for (const lepton::v1::Event& event : client.Generate(request)) {
      report["events"].push_back(ToJson(event));
      completion.Take(event);
      if (report["events"].size() == command.cancel_after_events) {
        report["cancelled"] = true;
        break;
      }
    }
  } catch (const lepton::Error& error) {
    report["error"] = ToJson(error);
  }
  Put(completion, report);
}

void Text(lepton::TextStream stream, json& report) { Put(stream.Collect(), report); }

template <class Request, class Response>
void Unary(lepton::Client& client, Response (lepton::Client::*method)(const Request&, const lepton::CallOptions&),
           const Command& command, json& report) {
  Request request;
  Parse(command.request, request);
  report["response"] = ToJson((client.*method)(request, {}));
}

void Run(const Command& command, json& report) {
  lepton::Client client(command.options);
  if (command.op == "generate") {
    Generate(client, command, report);
  } else if (command.op == "complete") {
    Text(client.Complete(command.request.at("text").get<std::string>(), TextOptionsOf(command.request)), report);
  } else if (command.op == "chat") {
    Text(client.Chat(MessagesOf(command.request), TextOptionsOf(command.request)), report);
  } else if (command.op == "tokenize") {
    Unary(client, &lepton::Client::Tokenize, command, report);
  } else if (command.op == "detokenize") {
    Unary(client, &lepton::Client::Detokenize, command, report);
  } else if (command.op == "count_tokens") {
    Unary(client, &lepton::Client::CountTokens, command, report);
  } else if (command.op == "list_models") {
    report["response"] = ToJson(client.ListModels());
  } else {
    throw std::runtime_error("no such op: " + command.op);
  }
}

json Answer(const std::string& line) {
  json report = {{"error", nullptr}, {"cancelled", false}};
  try {
    const json told = json::parse(line);
    report["id"] = told.at("id");
    Run(CommandOf(told), report);
  } catch (const lepton::Error& error) {
    report["error"] = ToJson(error);
  } catch (const std::exception& error) {
    report["error"] = {{"code", "UNKNOWN"}, {"reason", "DRIVER"}, {"message", error.what()}};
  }
  return report;
}

}  // namespace
}  // namespace driver

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << driver::Answer(line).dump() << std::endl;
  }
}
