// The cluster's workers, live: one card each, written over in place.

import { amount, draw, find, make, say } from "./dom.js";

const HISTORY = 60;
const WIDTH = 120;
const HEIGHT = 24;
const WORDS = { ready: "ready", connecting: "starting", suspect: "silent", ejected: "set aside", draining: "leaving", lost: "lost" };

class Card {
  constructor() {
    this.speeds = Array(HISTORY).fill(0);
    this.line = draw("polyline");
    this.chart = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.chart.append(this.line);
    for (const part of ["id", "state", "model", "trouble", "rows", "speed", "kv"]) this[part] = make("span", { class: part });
    this.rowsBar = make("meter", { min: "0", "aria-label": "Running sequences" });
    this.kvBar = make("meter", { min: "0", max: "1", "aria-label": "KV cache in use" });
    this.view = make("li", {},
      make("div", { class: "head" }, this.id, this.state),
      this.model, this.trouble,
      make("div", { class: "load" },
        make("div", {}, make("span", { class: "hint" }, "Running"), this.rows, this.rowsBar),
        make("div", {}, make("span", { class: "hint" }, "KV cache"), this.kv, this.kvBar),
        make("div", {}, make("span", { class: "hint" }, "Tokens/s"), this.speed, this.chart)));
  }

  show(worker) {
    this.view.dataset.state = worker.state;
    this.view.dataset.worker = worker.id;
    say(this.id, worker.id);
    say(this.state, WORDS[worker.state] ?? worker.state);
    say(this.model, `${worker.model} @ ${worker.revision.slice(0, 8)}`);
    say(this.trouble, worker.trouble);
    say(this.rows, `${worker.running} of ${worker.rows_max}${worker.waiting ? `, ${worker.waiting} wait` : ""}`);
    this.rowsBar.max = Math.max(worker.rows_max, 1);
    this.rowsBar.value = worker.running;
    say(this.kv, `${Math.round(worker.kv_usage * 100)} %`);
    this.kvBar.value = worker.kv_usage;
    say(this.speed, worker.tokens_per_s ? amount(worker.tokens_per_s) : "idle");
    this.speeds = [...this.speeds, worker.tokens_per_s].slice(-HISTORY);
    const top = Math.max(...this.speeds, 1);
    this.line.setAttribute("points", this.speeds
      .map((speed, i) => `${(i / (HISTORY - 1)) * WIDTH},${HEIGHT - 1 - (speed / top) * (HEIGHT - 2)}`)
      .join(" "));
  }
}

export class ClusterPanel {
  constructor() {
    this.cards = new Map();
    this.list = find("workers");
  }

  /** Shows what `/api/cluster` said. */
  show(picture) {
    const workers = picture.workers ?? [];
    const ids = new Set(workers.map((worker) => worker.id));
    for (const [id, card] of this.cards) {
      if (!ids.has(id)) {
        card.view.remove();
        this.cards.delete(id);
      }
    }
    workers.forEach((worker, place) => {
      if (!this.cards.has(worker.id)) this.cards.set(worker.id, new Card());
      const card = this.cards.get(worker.id);
      card.show(worker);
      if (this.list.children[place] !== card.view) this.list.insertBefore(card.view, this.list.children[place] ?? null);
    });
    this.list.classList.remove("old");
    say(find("workers-note"), noteOn(picture));
    health(...healthOf(picture));
  }

  /** Nobody answers: what is shown is old. */
  lost() {
    this.list.classList.add("old");
    say(find("workers-note"), "The cluster does not answer. `lepton up` starts one; this page goes on by itself.");
    health("away", "No answer, trying again");
  }
}

function noteOn(picture) {
  if (picture.stale_s !== null) return `The registry is away for ${Math.round(picture.stale_s)} s; these are the workers that it knew.`;
  if (picture.workers === null) return "This gateway stands before routers: it knows their models, not their workers.";
  return picture.workers.length ? "" : "No worker is there. `lepton up` starts some, `lepton ps` shows what became of them.";
}

function healthOf(picture) {
  if (picture.workers === null) {
    const count = picture.models.length;
    return count ? ["good", `${count} ${count === 1 ? "model" : "models"}`] : ["bad", "No model is served"];
  }
  const count = picture.workers.length;
  const ready = picture.workers.filter((worker) => worker.state === "ready").length;
  if (!ready) return ["bad", count ? "No worker is ready" : "No worker"];
  if (ready < count) return ["fair", `${ready} of ${count} workers ready`];
  return ["good", `${count} ${count === 1 ? "worker" : "workers"} ready`];
}

function health(state, text) {
  find("health").dataset.state = state;
  say(find("health"), text);
}
