// The figures of the call that runs, or ran last.

import { amount, duration, find, make, say } from "./dom.js";

const NONE = "–";
const ENDS = { stop: "end of the answer", length: "token limit", tool_calls: "a tool call" };

/** Shows `call`, whatever is known of it. */
export function showCall(call) {
  say(find("call-title"), call.isRunning ? "This call" : "Last call");
  find("call").dataset.state = call.state;
  figure("ttft", call.ttftMs === null ? [NONE] : duration(call.ttftMs).split(" "));
  figure("speed", call.tokensPerS === null ? [NONE] : [amount(call.tokensPerS), "tokens/s"]);
  figure("tokens", tokensOf(call));
  figure("cached", call.cachedTokens === null ? [NONE] : [amount(call.cachedTokens), "tokens"]);
  say(find("worker"), call.workers.join(" → ") || NONE);
  say(find("finish"), endOf(call));
  say(find("request-id"), call.requestId || NONE);
  find("request-id").title = call.requestId;
}

/** The line under an answer. */
export function lineOf(call) {
  const parts = [];
  if (call.tokens) parts.push(`${amount(call.tokens)} ${call.tokens === 1 ? "token" : "tokens"}`);
  if (call.tokensPerS !== null) parts.push(`${amount(call.tokensPerS)}/s`);
  if (call.ttftMs !== null) parts.push(`first after ${duration(call.ttftMs)}`);
  if (call.workers.length) parts.push(call.workers.join(" → "));
  if (call.state === "stopped") parts.push("stopped");
  else if (call.finish === "length") parts.push("cut at the token limit");
  return parts.join(" · ");
}

/** A number with its unit, smaller. */
function figure(id, [number, unit]) {
  const text = `${number}${unit ?? ""}`;
  if (find(id).textContent !== text) find(id).replaceChildren(number, ...(unit ? [make("small", {}, unit)] : []));
}

function tokensOf(call) {
  const prompt = call.usage?.prompt_tokens;
  if (prompt === undefined) return [call.pieces ? amount(call.pieces) : NONE];
  return [amount(call.tokens), `after ${amount(prompt)} read`];
}

function endOf(call) {
  if (call.state === "waiting") return "waiting";
  if (call.state === "streaming" && !call.finish) return "streaming";
  if (call.state === "stopped") return "you";
  if (call.state === "failed") return "an error";
  return ENDS[call.finish] ?? (call.finish || NONE);
}
