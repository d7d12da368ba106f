// The page as a whole: who tells whom.

import { Call, run } from "./call.js";
import { showCall } from "./call_panel.js";
import { ClusterPanel } from "./cluster.js";
import { Conversation } from "./conversation.js";
import { copy, find, make } from "./dom.js";
import { getJson, poll } from "./poll.js";
import { SettingProblem, offerModels, pointAt, requestFor } from "./settings.js";
import { asCurl, asPython } from "./snippets.js";
import { TracePanel } from "./trace.js";

const CLUSTER_EVERY_MS = 1000;
const STARTERS = [
  "What is 27 + 35?",
  "What is Lepton?",
  "Is this review positive or negative? The soup was cold and the waiter was rude.",
  "Give me the name and the city as JSON: Yesterday I met Mara in Oslo.",
];

const draft = find("draft");
const conversation = new Conversation((turn) => { if (!running) answer(turn); });
const trace = new TracePanel();
let running = null; // the AbortController of the call that runs

// ---- asking --------------------------------------------------------------------------------------------------

function send() {
  const question = draft.value;
  if (running || !question.trim()) return;
  if (requestOrNull(conversation.messages()) === null) return;
  draft.value = "";
  fit();
  answer(conversation.ask(question));
}

async function answer(turn) {
  const request = requestOrNull(conversation.messages(turn));
  if (request === null) return;
  running = new AbortController();
  busy(true);
  turn.begin();
  conversation.toEnd();
  const call = new Call();
  let moves = 1;
  try {
    await run(call, request, running.signal, {
      onText: (text, isThought) => conversation.following(() => turn.push(text, isThought)),
      onChange: () => {
        for (; moves < call.workers.length; moves += 1) turn.moved(call.workers[moves - 1], call.workers[moves]);
        showSoon(call);
      },
    });
    conversation.following(() => turn.end(call));
  } catch (error) {
    conversation.following(() => {
      turn.end(call);
      turn.fail(error);
    });
    if (error.param) pointAt(error.param);
  }
  running = null;
  busy(false);
  if (call.traceId) trace.show(call.traceId);
}

function requestOrNull(messages) {
  try {
    return requestFor(messages);
  } catch (problem) {
    if (!(problem instanceof SettingProblem)) throw problem;
    view("settings");
    find("schema").focus();
    return null;
  }
}

function stop() {
  running?.abort();
}

function busy(isBusy) {
  find("send").hidden = isBusy;
  find("stop-answer").hidden = !isBusy;
  if (!isBusy && (document.activeElement === document.body || document.activeElement === find("stop-answer"))) draft.focus();
}

let shownCall = null;
let isFramePending = false;

/** At most once a frame: hundreds of tokens a second are more than anybody reads. */
function showSoon(call) {
  shownCall = call;
  if (!call.isRunning) showCall(call);
  if (isFramePending) return;
  isFramePending = true;
  requestAnimationFrame(() => {
    isFramePending = false;
    showCall(shownCall);
  });
}

/** The message box is as high as its text, up to what the style sheet allows. */
function fit() {
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight + 2}px`;
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
draft.addEventListener("input", fit);
draft.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !find("code").open) stop();
});
find("stop-answer").addEventListener("click", stop);
find("clear").addEventListener("click", () => {
  stop();
  conversation.clear();
  draft.focus();
});
find("settings").addEventListener("submit", (event) => event.preventDefault());
find("starters").append(...STARTERS.map((text) => make("li", {}, make("button", {
  type: "button",
  onclick: () => {
    draft.value = text;
    send();
  },
}, text))));

// ---- the request as code -------------------------------------------------------------------------------------

const LANGUAGES = { curl: asCurl, python: asPython };

function showCode(language) {
  for (const tab of document.querySelectorAll("[data-language]")) {
    tab.setAttribute("aria-pressed", String(tab.dataset.language === language));
  }
  const last = conversation.turns.at(-1);
  const text = draft.value.trim() ? draft.value : last ? null : STARTERS[0];
  const messages = text === null ? conversation.messages(last) : [...conversation.messages(), { role: "user", content: text }];
  const request = requestOrNull(messages);
  if (request === null) return;
  find("code-text").textContent = LANGUAGES[language](request, location.origin);
  if (!find("code").open) find("code").showModal();
}

find("show-code").addEventListener("click", () => showCode("curl"));
for (const tab of document.querySelectorAll("[data-language]")) {
  tab.addEventListener("click", () => showCode(tab.dataset.language));
}
find("copy-code").addEventListener("click", (event) => copy(find("code-text").textContent, event.target));

// ---- parts of the page on a small screen ---------------------------------------------------------------------

function view(name) {
  document.documentElement.dataset.view = name;
  for (const button of document.querySelectorAll("nav [data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === name));
  }
}

for (const button of document.querySelectorAll("nav [data-view]")) {
  button.addEventListener("click", () => view(button.dataset.view));
}

// ---- the cluster ---------------------------------------------------------------------------------------------

const panel = new ClusterPanel();
let known = null; // the models as of the last time that the picker was filled

poll(async () => {
  try {
    const picture = await getJson("/api/cluster");
    panel.show(picture);
    const served = picture.models.map((model) => model.model).join("\n");
    if (served !== known) {
      const { data } = await getJson("/v1/models");
      offerModels(data.map((model) => model.id));
      known = served;
    }
  } catch (error) {
    panel.lost();
    throw error;
  }
}, CLUSTER_EVERY_MS);
