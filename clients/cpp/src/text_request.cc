#include "text_request.h"

#include <map>
#include <string>

#include "errors.h"

namespace lepton::internal {
namespace {

v1::Role RoleOf(const std::string& role, size_t index) {
  static const std::map<std::string, v1::Role> kRoles = {{"system", v1::ROLE_SYSTEM},
                                                         {"user", v1::ROLE_USER},
                                                         {"assistant", v1::ROLE_ASSISTANT},
                                                         {"tool", v1::ROLE_TOOL}};
  if (const auto found = kRoles.find(role); found != kRoles.end()) return found->second;
  throw InvalidArgument("\"" + role + "\" is no role; take system, user, assistant or tool", "FIELD_MALFORMED",
                        "chat.messages[" + std::to_string(index) + "].role");
}

v1::GenerateRequest RequestOf(const TextOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  request.set_session_key(options.session_key);
  request.set_request_id(options.request_id);
  request.mutable_output()->set_token_ids(false);  // only text is given out

  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.min_p) sampling.set_min_p(*options.min_p);
  if (options.seed) sampling.set_seed(*options.seed);
  if (options.n) sampling.set_n(*options.n);

  v1::StopConditions& stop = *request.mutable_stop();
  if (options.max_tokens) stop.set_max_tokens(*options.max_tokens);
  for (const std::string& text : options.stop) stop.add_strings(text);

  if (!options.json_schema.empty()) request.mutable_constraint()->set_json_schema(options.json_schema);
  return request;
}

}  // namespace

v1::GenerateRequest CompleteRequest(std::string_view text, const TextOptions& options) {
  v1::GenerateRequest request = RequestOf(options);
  request.set_text(std::string(text));
  return request;
}

v1::GenerateRequest ChatRequest(const std::vector<Message>& messages, const TextOptions& options) {
  v1::GenerateRequest request = RequestOf(options);
  v1::ChatInput& chat = *request.mutable_chat();
  for (size_t index = 0; index < messages.size(); ++index) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(RoleOf(messages[index].role, index));
    message.set_content(messages[index].content);
  }
  return request;
}

}  // namespace lepton::internal
