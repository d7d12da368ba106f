// Building elements and writing numbers. Text only ever becomes text nodes: what a model or a user wrote is never markup.

export const find = (id) => document.getElementById(id);

/** An element with attributes, listeners (`onclick`) and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** An SVG element. */
export function draw(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Writes text, and touches the page only when it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A button that copies what `text()` returns, and says so. */
export function copyButton(text, attributes = {}) {
  const button = make("button", { type: "button", class: "quiet", ...attributes }, "Copy");
  button.addEventListener("click", () => copy(text(), button));
  return button;
}

/** Copies; `button` says how it went. */
export async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or a page that did not come from this machine or over TLS
    const area = make("textarea", { class: "unseen" });
    area.value = text;
    (button.closest("dialog") ?? document.body).append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = done ? "Copied" : "Not allowed";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/** Milliseconds for people: 0.42 ms, 12 ms, 1.3 s. */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms >= 10000 ? 0 : 1)} s`;
  return `${ms.toFixed(ms >= 10 ? 0 : ms >= 1 ? 1 : 2)} ms`;
}

/** A count or a speed for people: 7.5, 412, 12,400. */
export function amount(number) {
  return number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 });
}
