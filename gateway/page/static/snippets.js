// The request as somebody would send it without this page.

const INDENT = 4;

/** A line for a POSIX shell. */
export function asCurl(request, origin) {
  const body = JSON.stringify(request, null, 2).replaceAll("'", "'\\''");
  return `curl -N ${origin}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '${body}'`;
}

/** A program for OpenAI's client. */
export function asPython(request, origin) {
  const { stream_options: _, ...fields } = request;
  const keywords = Object.entries(fields).map(([name, value]) => `    ${name}=${python(value, INDENT)},\n`);
  return `from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key="none")
stream = client.chat.completions.create(
${keywords.join("")})
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
`;
}

/** JSON data as a Python literal. A JSON string is one already. */
function python(value, depth) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Array.isArray(value)
    ? value.map((item) => python(item, depth + INDENT))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${python(item, depth + INDENT)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = `${open}${items.join(", ")}${close}`;
  if (line.length + depth < 72 && !line.includes("\n")) return line;
  const margin = " ".repeat(depth);
  return `${open}\n${items.map((item) => `${margin}    ${item},\n`).join("")}${margin}${close}`;
}
