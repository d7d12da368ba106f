// The waterfall of one call: its spans, from every process that had a part in it.

import { duration, find, make, say } from "./dom.js";
import { getJson } from "./poll.js";

const TRIES = 10;
const PAUSE_MS = 300;
const SERVICES = 2;

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

export class TracePanel {
  constructor() {
    this.wanted = "";
  }

  /** Waits until the processes have written their spans, then draws them. A later call takes the place of an earlier one. */
  async show(traceId) {
    this.wanted = traceId;
    let seen = -1;
    for (let tried = 0; tried < TRIES; tried += 1) {
      await pause(PAUSE_MS);
      if (this.wanted !== traceId) return;
      const trace = await getJson(`/api/traces/${traceId}`).catch(() => null);
      if (this.wanted !== traceId) return;
      if (trace === null) continue;
      if (trace.spans.length !== seen) this.draw(trace);
      if (isWhole(trace) && trace.spans.length === seen) return;
      seen = trace.spans.length;
    }
    if (seen < 0) this.none();
  }

  draw({ spans, duration_ms: whole }) {
    say(find("trace-note"), "");
    say(find("trace-total"), duration(whole));
    find("trace").replaceChildren(...spans.map((span) => row(span, Math.max(whole, 1e-6))));
  }

  none() {
    find("trace").replaceChildren();
    say(find("trace-total"), "");
    say(find("trace-note"), "This process has no spans of the call: they may go to a collector, or tracing is off.");
  }
}

function isWhole({ spans }) {
  const ids = new Set(spans.map((span) => span.span_id));
  const orphans = spans.filter((span) => span.parent_id && !ids.has(span.parent_id));
  return !orphans.length && new Set(spans.map((span) => span.service)).size >= SERVICES;
}

function row(span, whole) {
  const bar = make("i", { class: "bar", "data-kind": span.status === "OK" ? span.kind : "error" });
  bar.style.setProperty("--from", String(span.offset_ms / whole));
  bar.style.setProperty("--share", String(span.duration_ms / whole));
  const name = make("span", { class: "name" }, nameOf(span));
  name.style.setProperty("--depth", String(span.depth));
  const head = make("summary", {}, name, make("span", { class: "lane" }, bar), make("span", { class: "ms" }, duration(span.duration_ms)));
  const facts = { span: span.name, where: `${span.service} ${span.instance}`, ...(span.status === "OK" ? {} : { status: span.status }), ...span.attributes };
  const pairs = Object.entries(facts).map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, textOf(value))));
  return make("li", {}, make("details", {}, head, make("dl", {}, ...pairs)));
}

/** In a word or two; the whole name is among the facts. */
function nameOf(span) {
  if (span.kind === "client") return "to the worker";
  if (span.kind === "server") return span.service === "lepton-worker" ? `worker ${span.instance}` : isHttp(span) ? "HTTP" : "router";
  return span.name.replace("lepton.", "");
}

const isHttp = (span) => "http.request.method" in span.attributes;
const textOf = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
