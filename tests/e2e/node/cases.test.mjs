// The official `openai` client from npm against a running cluster: OPENAI_BASE_URL says where. Run by test_openai_node.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { APIConnectionError, APIUserAbortError, BadRequestError, NotFoundError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0 });
const ask = {
  model: "demo",
  messages: [{ role: "user", content: "What is 27 + 35?" }],
};
const answer = "27 + 35 = 62";
const operand = { type: "integer", minimum: 0, maximum: 99 };
const tools = [
  {
    type: "function",
    function: {
      name: "add",
      description: "Adds two numbers.",
      parameters: {
        type: "object",
        properties: { a: operand, b: operand },
        required: ["a", "b"],
        additionalProperties: false,
      },
    },
  },
];
const forced = { type: "function", function: { name: "add" } };

function checkArguments(text) {
  const given = JSON.parse(text);
  assert.deepEqual(Object.keys(given).sort(), ["a", "b"]);
  for (const value of Object.values(given)) assert.ok(value >= 0 && value <= 99, text);
}

test("models are listed", async () => {
  const found = [];
  for await (const model of client.models.list()) found.push(model.id);
  assert.deepEqual(found, ["demo"]);
  assert.equal((await client.models.retrieve("demo")).owned_by, "lepton");
});

test("a chat is answered whole, with its usage and the name of the request", async () => {
  const said = await client.chat.completions.create(ask);
  assert.equal(said.choices[0].message.content, answer);
  assert.equal(said.choices[0].finish_reason, "stop");
  assert.equal(said.usage.total_tokens, said.usage.prompt_tokens + said.usage.completion_tokens);
  assert.match(said._request_id, /^[0-9a-f]{32}$/);
});

test("a chat streams", async () => {
  const stream = await client.chat.completions.create({
    ...ask,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  let finish;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  assert.deepEqual([text, finish], [answer, "stop"]);
  assert.ok(usage.completion_tokens > 5);
});

test("the helper for streams gathers the same", async () => {
  const pieces = [];
  const stream = client.chat.completions.stream(ask).on("content", (piece) => pieces.push(piece));
  const whole = await stream.finalChatCompletion();
  assert.equal(whole.choices[0].message.content, answer);
  assert.equal(pieces.join(""), answer);
});

test("a seed that was told can be given back by a language whose numbers have 53 bits", async () => {
  const drawn = { ...ask, messages: [{ role: "user", content: "Tell me something." }], temperature: 2 };
  const read = async (more) => {
    let text = "";
    let seed;
    for await (const chunk of await client.chat.completions.create({ ...drawn, ...more, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
      seed = chunk.lepton?.seed ?? seed;
    }
    return { text, seed };
  };
  const first = await read({ max_tokens: 32 });
  assert.ok(Number.isSafeInteger(first.seed));
  assert.deepEqual(await read({ max_tokens: 32, seed: first.seed }), first);
});

test("a stream that is left ends at once, and the cluster answers the next", async () => {
  const endless = { ...ask, max_tokens: 900, ignore_eos: true, stream: true };
  const stream = await client.chat.completions.create(endless);
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
  const controller = new AbortController();
  const left = client.chat.completions.create({ ...endless, stream: false }, { signal: controller.signal });
  setImmediate(() => controller.abort());
  await assert.rejects(left, APIUserAbortError);
  assert.equal((await client.chat.completions.create(ask)).choices[0].message.content, answer);
});

test("structured output is parsed", async () => {
  const Review = z.object({ sentiment: z.enum(["positive", "negative"]), stars: z.literal([1, 2, 3, 4, 5]) });
  const said = await client.chat.completions.parse({
    ...ask,
    messages: [{ role: "user", content: "Is this review positive or negative? The soup was cold." }],
    response_format: zodResponseFormat(Review, "review"),
  });
  const { sentiment, stars } = said.choices[0].message.parsed;
  assert.ok(["positive", "negative"].includes(sentiment));
  assert.ok([1, 2, 3, 4, 5].includes(stars));
});

test("a forced tool is called", async () => {
  const said = await client.chat.completions.create({ ...ask, tools, tool_choice: forced });
  const [choice] = said.choices;
  assert.equal(choice.message.tool_calls.length, 1);
  const [call] = choice.message.tool_calls;
  assert.deepEqual([call.type, call.function.name], ["function", "add"]);
  checkArguments(call.function.arguments);
});

test("calls of tools stream", async () => {
  const stream = client.chat.completions.stream({ ...ask, tools, tool_choice: "required", parallel_tool_calls: false });
  const whole = await stream.finalChatCompletion();
  const [call] = whole.choices[0].message.tool_calls;
  assert.equal(call.function.name, "add");
  checkArguments(call.function.arguments);
});

test("log-probabilities are those of the tokens", async () => {
  const said = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
  const { content } = said.choices[0].logprobs;
  assert.equal(content.map((one) => one.token).join(""), answer);
  for (const one of content) {
    assert.equal(one.top_logprobs.length, 2);
    assert.equal(one.top_logprobs[0].logprob, one.logprob); // greedy took the likeliest
  }
});

test("completions continue a text", async () => {
  const said = await client.completions.create({ model: "demo", prompt: ["one", "two"], max_tokens: 3 });
  assert.deepEqual(said.choices.map((choice) => choice.index), [0, 1]);
});

test("errors come as the client's own, with our reason", async () => {
  await assert.rejects(client.chat.completions.create({ ...ask, model: "gpt-nothing" }), (error) => {
    assert.ok(error instanceof NotFoundError);
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
    return true;
  });
  for (const more of [{ top_p: 7 }, { temprature: 1 }, { messages: [{ role: "user", content: "x ".repeat(5000) }] }]) {
    await assert.rejects(client.chat.completions.create({ ...ask, ...more }), (error) => {
      assert.ok(error instanceof BadRequestError);
      assert.equal(error.param, Object.keys(more)[0]);
      assert.ok(error.requestID);
      return true;
    });
  }
});

test("nobody there is a failed connection", async () => {
  const nowhere = new OpenAI({ baseURL: "http://127.0.0.1:1/v1", maxRetries: 0 });
  await assert.rejects(nowhere.models.list(), APIConnectionError);
});
