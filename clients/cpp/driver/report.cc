#include "report.h"

#include <google/protobuf/util/json_util.h>

#include <chrono>
#include <stdexcept>
#include <string>

namespace driver {

using nlohmann::json;

json ToJson(const google::protobuf::Message& message) {
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text);
  if (!status.ok()) throw std::runtime_error("no JSON of a message: " + status.ToString());
  return json::parse(text);
}

json ToJson(const lepton::Error& error) {
  json told = {{"code", error.code_name()},
               {"reason", error.reason()},
               {"field", nullptr},
               {"retry_after_s", nullptr},
               {"message", error.message()},
               {"has_request_id", !error.request_id().empty()}};
  if (!error.field().empty()) told["field"] = error.field();
  if (error.retry_after()) told["retry_after_s"] = std::chrono::duration<double>(*error.retry_after()).count();
  return told;
}

void Put(const lepton::Completion& completion, json& report) {
  report["text"] = json::array();
  report["finish"] = json::array();
  for (const lepton::Choice& choice : completion.choices) {
    report["text"].push_back(choice.text);
    report["finish"].push_back(choice.finish_reason);
  }
}

}  // namespace driver
