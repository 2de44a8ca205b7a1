// The official OpenAI client for JavaScript, driven by a test in the same way as the one for Python beside it.
const OpenAI = require('openai');

const TOOL = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather of a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
  },
};
const SCHEMA = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const said = (order) => [{ role: 'user', content: order.text ?? 'hello' }];
const asked = (order, own) => ({ model: order.model, messages: said(order), ...own, ...order.more });
const usage = (found) => (found ? [found.prompt_tokens ?? found.input_tokens, found.completion_tokens ?? found.output_tokens] : null);
const call = (made) => [made.function.name, JSON.parse(made.function.arguments)];

const ORDERS = {
  async chat(client, order) {
    const answer = await client.chat.completions.create(asked(order));
    const [choice] = answer.choices;
    return { text: choice.message.content, finish: choice.finish_reason, usage: usage(answer.usage) };
  },
  async stream(client, order) {
    order.seen = [];
    let finish = null, cost = null;
    for await (const chunk of await client.chat.completions.create(asked(order, { stream: true }))) {
      cost = usage(chunk.usage) ?? cost;
      for (const choice of chunk.choices) {
        if (choice.delta.content) order.seen.push(choice.delta.content);
        finish = choice.finish_reason ?? finish;
      }
      if (order.stop_after && order.seen.length >= order.stop_after) break;
    }
    return { text: order.seen.join(''), pieces: order.seen.length, finish, usage: cost };
  },
  async tools(client, order) {
    const first = await client.chat.completions.create(asked(order, { tools: [TOOL] }));
    const [choice] = first.choices;
    const result = { role: 'tool', tool_call_id: choice.message.tool_calls[0].id, content: '18 degrees' };
    const messages = [...said(order), choice.message, result];
    const second = await client.chat.completions.create({ model: order.model, messages, tools: [TOOL] });
    return { finish: choice.finish_reason, calls: choice.message.tool_calls.map(call), text: second.choices[0].message.content };
  },
  async tools_stream(client, order) {
    const answer = await client.chat.completions.stream(asked(order, { tools: [TOOL] })).finalChatCompletion();
    const [choice] = answer.choices;
    return { finish: choice.finish_reason, calls: choice.message.tool_calls.map(call) };
  },
  async schema(client, order) {
    const form = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: SCHEMA } };
    const answer = await client.chat.completions.create(asked(order, { response_format: form }));
    return { json: JSON.parse(answer.choices[0].message.content) };
  },
  async embeddings(client, order) {
    const answer = await client.embeddings.create({ model: order.model, input: order.input, ...order.more });
    return { vectors: answer.data.map((entry) => Array.from(entry.embedding)), tokens: answer.usage.prompt_tokens };
  },
  async models(client) {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids: ids.sort() };
  },
  async responses(client, order) {
    const answer = await client.responses.create({ model: order.model, input: order.text ?? 'hello', ...order.more });
    return { text: answer.output_text, status: answer.status, usage: usage(answer.usage) };
  },
  async responses_stream(client, order) {
    const pieces = [];
    const events = client.responses.stream({ model: order.model, input: order.text ?? 'hello', ...order.more });
    for await (const event of events) if (event.type === 'response.output_text.delta') pieces.push(event.delta);
    const answer = await events.finalResponse();
    return { text: pieces.join(''), pieces: pieces.length, status: answer.status, usage: usage(answer.usage) };
  },
  async responses_tools(client, order) {
    const tool = { type: 'function', strict: false, ...TOOL.function };
    const answer = await client.responses.create({ model: order.model, input: order.text ?? 'hello', tools: [tool] });
    const calls = answer.output.filter((item) => item.type === 'function_call');
    return { calls: calls.map((item) => [item.name, JSON.parse(item.arguments)]) };
  },
};

function failed(error, order) {
  return {
    class: error.constructor.name,
    message: error.message,
    seen: (order.seen ?? []).join(''),
    status: error.status ?? null,
    code: error.code ?? null,
    type: error.type ?? null,
    retry_after: error.headers?.get('retry-after') ?? null,
    request_id: error.headers?.get('x-request-id') ?? null,
  };
}

async function main() {
  const told = JSON.parse(process.argv[2]);
  const options = told.base_url ? { baseURL: told.base_url, apiKey: told.key } : {};
  for (const order of told.orders) {
    const client = new OpenAI({ maxRetries: 0, timeout: 1000 * (order.timeout_s ?? 60), ...options });
    let outcome;
    try {
      outcome = { ok: await ORDERS[order.do](client, order) };
    } catch (error) {
      if (!(error instanceof OpenAI.OpenAIError)) throw error;
      outcome = { error: failed(error, order) };
    }
    console.log(JSON.stringify(outcome));
  }
}

main();
