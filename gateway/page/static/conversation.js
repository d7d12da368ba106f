// The turns of a conversation, on the page and as messages.

import { lineOf } from "./call_panel.js";
import { copyButton, find, make } from "./dom.js";
import { explain } from "./errors.js";
import { Prose } from "./prose.js";

const NEAR_END_PX = 80;

/** One question and its answer. Only whole turns, stopped ones included, are part of what the model is told. */
class Turn {
  constructor(question, onRetry) {
    this.question = question;
    this.answer = null;
    this.onRetry = onRetry;
    this.view = make("section", { class: "turn" },
      make("div", { class: "question" }, make("span", { class: "unseen" }, "You: "), question));
  }

  /** A fresh answer, in place of an earlier one. */
  begin() {
    this.answer = null;
    this.thoughts = null;
    this.answerView?.remove();
    this.proseView = make("div", { class: "prose" });
    this.answerView = make("article", { class: "answer", "aria-label": "Answer", "aria-busy": "true" }, this.proseView);
    this.prose = new Prose(this.proseView);
    this.view.append(this.answerView);
  }

  /** What the model thinks before it answers stands apart, and is not told to it again. */
  push(text, isThought) {
    if (!isThought) {
      this.prose.push(text);
      return;
    }
    if (!this.thoughts) {
      this.thoughts = make("p");
      this.proseView.before(make("details", { class: "thoughts" }, make("summary", {}, "Thoughts"), this.thoughts));
    }
    this.thoughts.append(text);
  }

  moved(from, to) {
    this.answerView.append(make("p", { class: "moved" }, `${from} went away; ${to} goes on. Nothing was lost.`));
  }

  end(call) {
    this.prose.end();
    if (call.state !== "failed" && (this.prose.text || call.state === "done")) this.answer = this.prose.text;
    this.answerView.setAttribute("aria-busy", "false");
    this.answerView.append(make("footer", {},
      make("span", { class: "figures-line" }, lineOf(call)),
      copyButton(() => this.prose.text),
      make("button", { type: "button", class: "quiet retry", onclick: () => this.onRetry(this) }, "Retry")));
  }

  fail(error) {
    const { title, advice } = explain(error);
    const detail = [error.message, error.code && `(${error.code})`].filter(Boolean).join(" ");
    const wait = error.retryAfterS ? ` It suggests to wait ${Math.ceil(error.retryAfterS)} s.` : "";
    this.answerView.append(make("div", { class: "failure", role: "alert" },
      make("strong", {}, title), make("p", {}, advice + wait), make("p", { class: "hint mono" }, detail)));
  }
}

export class Conversation {
  /** `onRetry(turn)` asks the last turn again. */
  constructor(onRetry) {
    this.onRetry = onRetry;
    this.turns = [];
    this.log = find("log");
    this.welcome = find("welcome");
  }

  /** A new turn, shown. */
  ask(question) {
    const turn = new Turn(question, this.onRetry);
    this.turns.push(turn);
    this.welcome.remove();
    this.log.append(turn.view);
    turn.begin();
    this.toEnd();
    return turn;
  }

  /** What the model is told up to and with `turn`; without one, everything so far. */
  messages(turn) {
    const before = this.turns.slice(0, turn ? this.turns.indexOf(turn) : undefined).filter((one) => one.answer !== null);
    const said = before.flatMap((one) => [{ role: "user", content: one.question }, { role: "assistant", content: one.answer }]);
    return turn ? [...said, { role: "user", content: turn.question }] : said;
  }

  clear() {
    this.turns = [];
    this.log.replaceChildren(this.welcome);
  }

  /** Runs `change`; whoever reads the end goes on reading the end. */
  following(change) {
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_END_PX;
    change();
    if (atEnd) this.toEnd();
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }
}
