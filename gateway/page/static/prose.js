// The text of an answer while it grows: fenced code stands apart, everything else is shown as it is.

import { copyButton, make } from "./dom.js";

const FENCE = /^ {0,3}```[^`]*$/;
const MAY_BE_FENCE = /^ {0,3}(?:`{0,2}$|```)/;

export class Prose {
  /** Writes into `root`, which it owns. */
  constructor(root) {
    this.root = root;
    this.text = "";
    this.held = ""; // the begin of a line that may become a fence
    this.atLineStart = true;
    this.inCode = false;
    this.leaf = null; // the text node that grows
  }

  /** More text. */
  push(text) {
    this.text += text;
    this.held += text;
    while (this.held) {
      const end = this.held.indexOf("\n");
      const line = end < 0 ? this.held : this.held.slice(0, end);
      if (this.atLineStart && MAY_BE_FENCE.test(line)) {
        if (end < 0) return;
        if (FENCE.test(line)) this.turn();
        else this.show(`${line}\n`);
      } else {
        this.show(end < 0 ? line : `${line}\n`);
      }
      this.held = end < 0 ? "" : this.held.slice(end + 1);
      this.atLineStart = end >= 0;
    }
  }

  /** No more text. */
  end() {
    if (this.held && !(this.inCode && FENCE.test(this.held))) this.show(this.held);
    this.held = "";
  }

  turn() {
    this.inCode = !this.inCode;
    this.leaf = null;
  }

  show(text) {
    if (!this.leaf) {
      if (text === "\n") return; // an empty line beside a block is its margin
      this.leaf = document.createTextNode("");
      if (this.inCode) {
        const code = make("code", {}, this.leaf);
        this.root.append(make("div", { class: "block" }, make("pre", { tabindex: "0" }, code), copyButton(() => code.textContent)));
      } else {
        this.root.append(make("p", {}, this.leaf));
      }
    }
    this.leaf.appendData(text);
  }
}
