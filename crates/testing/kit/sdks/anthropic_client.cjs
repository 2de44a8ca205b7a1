// The official Anthropic client for JavaScript, driven by a test in the same way as the others beside it.
const Anthropic = require('@anthropic-ai/sdk');

const TOOL = {
  name: 'get_weather',
  description: 'The weather of a city.',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const said = (order) => [{ role: 'user', content: order.text ?? 'hello' }];
const asked = (order, own) => ({ model: order.model, max_tokens: 64, messages: said(order), ...own, ...order.more });
const text = (message) => message.content.filter((block) => block.type === 'text').map((block) => block.text).join('');
const usage = (message) => [message.usage.input_tokens, message.usage.output_tokens];
const calls = (message) => message.content.filter((block) => block.type === 'tool_use').map((block) => [block.name, block.input]);

const ORDERS = {
  async chat(client, order) {
    const message = await client.messages.create(asked(order));
    return { text: text(message), finish: message.stop_reason, usage: usage(message) };
  },
  async stream(client, order) {
    order.seen = [];
    const events = client.messages.stream(asked(order));
    for await (const event of events) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') order.seen.push(event.delta.text);
      if (order.stop_after && order.seen.length >= order.stop_after) return { text: order.seen.join(''), pieces: order.seen.length };
    }
    const message = await events.finalMessage();
    return { text: text(message), pieces: order.seen.length, finish: message.stop_reason, usage: usage(message) };
  },
  async tools(client, order) {
    const first = await client.messages.create(asked(order, { tools: [TOOL] }));
    const call = first.content.find((block) => block.type === 'tool_use');
    const result = { type: 'tool_result', tool_use_id: call.id, content: '18 degrees' };
    const messages = [...said(order), { role: 'assistant', content: first.content }, { role: 'user', content: [result] }];
    const second = await client.messages.create({ model: order.model, max_tokens: 64, messages, tools: [TOOL] });
    return { finish: first.stop_reason, calls: calls(first), text: text(second) };
  },
  async tools_stream(client, order) {
    const message = await client.messages.stream(asked(order, { tools: [TOOL] })).finalMessage();
    return { finish: message.stop_reason, calls: calls(message) };
  },
  async count(client, order) {
    const counted = await client.messages.countTokens({ model: order.model, messages: said(order) });
    return { tokens: counted.input_tokens };
  },
  async models(client) {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids: ids.sort() };
  },
};

function failed(error, order) {
  return {
    class: error.constructor.name,
    message: error.message,
    seen: (order.seen ?? []).join(''),
    status: error.status ?? null,
    type: error.error?.error?.type ?? null,
    retry_after: error.headers?.get('retry-after') ?? null,
    request_id: error.requestID ?? null,
  };
}

async function main() {
  const told = JSON.parse(process.argv[2]);
  const options = told.base_url ? { baseURL: told.base_url, apiKey: told.key } : {};
  for (const order of told.orders) {
    const client = new Anthropic({ maxRetries: 0, timeout: 1000 * (order.timeout_s ?? 60), ...options });
    let outcome;
    try {
      outcome = { ok: await ORDERS[order.do](client, order) };
    } catch (error) {
      if (!(error instanceof Anthropic.AnthropicError)) throw error;
      outcome = { error: failed(error, order) };
    }
    console.log(JSON.stringify(outcome));
  }
}

main();
