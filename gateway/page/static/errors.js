// What went wrong, in plain words: the server's message says what, this says what it means and what to do.

/** A refusal or failure of the interface. `code` is the reason of docs/errors.md in lower case. */
export class ApiError extends Error {
  constructor(told, status = 0) {
    super(told.message || "");
    this.code = told.code || "";
    this.param = told.param || "";
    this.retryAfterS = told.retry_after_s ?? null;
    this.status = status;
  }
}

/** No answer at all: the process is gone, or the way to it. */
export const unreachable = () => new ApiError({ code: "unreachable", message: "The browser could not connect to this address." });

/** The error of a response whose status says that it is one. */
export async function errorOf(response) {
  let told;
  try {
    told = (await response.json()).error;
  } catch { /* not ours: a proxy, perhaps */ }
  const found = told && typeof told === "object" ? told : { message: `The server answered with status ${response.status}.` };
  const after = Number(response.headers.get("retry-after"));
  return new ApiError({ retry_after_s: after > 0 ? after : null, ...found }, response.status);
}

const WORDS = {
  unreachable: ["The cluster does not answer", "Is it running? `lepton up` starts one. This page goes on by itself once it is back."],
  stream_cut: ["The connection broke in the middle of the answer", "What came stays above. Ask again to get the whole of it."],
  no_worker: ["No worker is ready to answer", "Workers may still be starting; the list of workers shows them. Ask again in a moment."],
  model_not_found: ["This model is not served", "Choose another model in the settings."],
  model_ambiguous: ["The cluster serves several models", "Choose one in the settings."],
  worker_lost: ["The worker went away, and nobody could take over", "Ask again: another worker will answer."],
  draining: ["The cluster is shutting down", "Ask again once it is back."],
  starting: ["The cluster is still starting", "Ask again in a few seconds."],
  queue_full: ["Too many questions at once", "Wait a moment, then ask again."],
  caller_queue_full: ["You have too many questions waiting", "Wait for some of them to be answered."],
  queue_timeout: ["Nobody was free in time", "Wait a moment, then ask again."],
  would_be_late: ["The wait would be too long", "Wait a moment, then ask again."],
  deadline_exceeded: ["The answer took too long", "Allow fewer tokens, or ask for less."],
  prompt_too_long: ["The conversation is longer than the model can read", "Clear it, or shorten what you wrote."],
  body_too_large: ["The message is too large", "Send less at once."],
  grammar_unsupported: ["The JSON schema asks for something that cannot be enforced", "Leave out what the message names."],
  grammar_invalid: ["This is no JSON schema", "Correct it in the settings."],
  grammar_too_large: ["The JSON schema is too large", "Make it simpler."],
  grammar_unsatisfiable: ["Nothing can follow this JSON schema", "Correct it in the settings."],
  chat_template_refused: ["The model cannot read this conversation", "Its template refuses it; change the system prompt or the turns."],
  poison_request: ["This question made workers fail, and is set aside", "Ask something else."],
  host_not_allowed: ["The cluster does not answer to this name", "Open the page by its IP address, or add the name to the setting `gateway.hosts`."],
};
const OURS = ["Something broke inside the cluster", "Ask again. If it stays so, the log of the router says why."];
const FIELD = ["A setting is not allowed", "Change it in the settings."];
const OTHER = ["The cluster refused this", "The message below says why."];

/** { title, advice } for people. */
export function explain(error) {
  const [title, advice] = WORDS[error.code] ?? (error.status >= 500 || error.code === "stream_fault" ? OURS : error.param ? FIELD : OTHER);
  return { title, advice };
}
