// The settings form, as the fields of a request. The cluster judges values; only what is no JSON stops here.

import { find, make, say } from "./dom.js";

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

/** A setting that cannot even be sent; its field already says so. */
export class SettingProblem extends Error {}

/** The request for `messages`. Fields that are empty are left out: the cluster's defaults hold. */
export function requestFor(messages) {
  const form = find("settings").elements;
  const system = form.system.value.trim() ? [{ role: "system", content: form.system.value }] : [];
  const model = form.model.value;
  const request = { ...(model && { model }), messages: [...system, ...messages] };
  for (const name of NUMBERS) {
    if (form[name].value !== "") request[name] = Number(form[name].value);
  }
  const stop = form.stop.value.split("\n").filter((line) => line !== "");
  if (stop.length) request.stop = stop;
  const schema = schemaOf(form.schema);
  if (schema !== undefined) {
    request.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  }
  return { ...request, stream: true, stream_options: { include_usage: true } };
}

function schemaOf(field) {
  tell(field, "");
  if (!field.value.trim()) return undefined;
  try {
    return JSON.parse(field.value);
  } catch (error) {
    tell(field, `This is no JSON: ${error.message}`);
    throw new SettingProblem(error.message);
  }
}

function tell(field, problem) {
  field.setAttribute("aria-invalid", String(problem !== ""));
  say(find("schema-problem"), problem);
}

/** Offers `models`, and keeps the one that was chosen while it is there. */
export function offerModels(models) {
  const select = find("model");
  const names = [...new Set(models)];
  if (names.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  if (!names.length) select.append(make("option", { value: "" }, "No model yet"));
  select.disabled = !names.length;
  if (names.includes(chosen)) select.value = chosen;
}

/** Marks the field that an error is about, if it is one of ours. */
export function pointAt(param) {
  const name = param.split(/[.[]/)[0];
  const field = find("settings").elements[{ response_format: "schema", max_completion_tokens: "max_tokens" }[name] ?? name];
  if (!(field instanceof HTMLElement)) return;
  field.setAttribute("aria-invalid", "true");
  field.addEventListener("input", () => field.removeAttribute("aria-invalid"), { once: true });
}
