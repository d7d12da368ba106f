// One streamed completion: its figures while it runs, and its text as it comes.

import { ApiError, errorOf, unreachable } from "./errors.js";
import { events } from "./events.js";

const END = "[DONE]";

/** What is known of a call; times are milliseconds of `performance.now()`. */
export class Call {
  constructor() {
    this.state = "waiting"; // then streaming, and one of done, stopped, failed
    this.startedAt = performance.now();
    this.firstAt = null;
    this.lastAt = null;
    this.pieces = 0; // deltas with text; a lower bound of tokens until the usage is there
    this.usage = null;
    this.timings = null;
    this.finish = "";
    this.workers = []; // more than one: the answer moved
    this.requestId = "";
    this.traceId = "";
  }

  get isRunning() { return this.state === "waiting" || this.state === "streaming"; }

  /** Time to the first text, ms. */
  get ttftMs() { return this.firstAt === null ? null : this.firstAt - this.startedAt; }

  get tokens() { return this.usage?.completion_tokens ?? this.pieces; }

  get cachedTokens() { return this.usage?.prompt_tokens_details?.cached_tokens ?? null; }

  /** After the first token: as the worker measured it, else as the browser saw it. */
  get tokensPerS() {
    const seconds = this.timings?.decode_us ? this.timings.decode_us / 1e6 : (this.lastAt - this.firstAt) / 1e3;
    return this.tokens > 1 && seconds > 0 ? (this.tokens - 1) / seconds : null;
  }
}

/**
 * Runs `request` to its end; `onText(text, isThought)` gets the text, `onChange` is told of everything else. Throws `ApiError`; an abort
 * of `signal` is no error but the state `stopped`.
 */
export async function run(call, request, signal, { onText, onChange }) {
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
      signal,
    }).catch((error) => { throw signal.aborted ? error : unreachable(); });
    call.requestId = response.headers.get("x-request-id") ?? "";
    call.traceId = response.headers.get("lepton-trace-id") ?? "";
    if (!response.ok) throw await errorOf(response);
    onChange();
    await follow(call, response.body, onText, onChange);
    call.state = "done";
  } catch (error) {
    call.state = signal.aborted ? "stopped" : "failed";
    if (!signal.aborted) throw error instanceof ApiError ? error : cut(error);
  } finally {
    onChange();
  }
}

async function follow(call, body, onText, onChange) {
  for await (const data of events(body)) {
    if (data === END) return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error);
    take(call, chunk);
    const choice = chunk.choices?.[0];
    if (choice?.finish_reason) call.finish = choice.finish_reason;
    const { content, reasoning_content: thought } = choice?.delta ?? {};
    if (content || thought) {
      call.lastAt = performance.now();
      call.firstAt ??= call.lastAt;
      call.state = "streaming";
      call.pieces += 1;
      if (thought) onText(thought, true);
      if (content) onText(content, false);
    }
    onChange();
  }
  throw cut();
}

/** What a chunk says beside text. */
function take(call, chunk) {
  const { worker, migrated, timings } = chunk.lepton ?? {};
  if (worker && !call.workers.length) call.workers.push(worker);
  if (migrated) {
    if (!call.workers.length) call.workers.push(migrated.from);
    call.workers.push(migrated.to);
  }
  if (timings) call.timings = timings;
  if (chunk.usage) call.usage = chunk.usage;
}

const cut = (error) => new ApiError({ code: "stream_cut", message: error?.message ?? "The stream ended before the answer did." });
