"""The official Anthropic client for Python, driven by a test in the same way as the one of OpenAI beside it."""
import json
import sys

import anthropic

TOOL = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def said(order):
    return [{"role": "user", "content": order.get("text", "hello")}]


def asked(order, **own):
    return {"model": order["model"], "max_tokens": 64, "messages": said(order), **own, **order.get("more", {})}


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def usage(message):
    return [message.usage.input_tokens, message.usage.output_tokens]


def chat(client, order):
    message = client.messages.create(**asked(order))
    return {"text": text(message), "finish": message.stop_reason, "usage": usage(message)}


def stream(client, order):
    pieces = order.setdefault("seen", [])
    with client.messages.stream(**asked(order)) as events:
        for piece in events.text_stream:
            pieces.append(piece)
            if order.get("stop_after") and len(pieces) >= order["stop_after"]:
                return {"text": "".join(pieces), "pieces": len(pieces)}
        message = events.get_final_message()
    return {"text": text(message), "pieces": len(pieces), "finish": message.stop_reason, "usage": usage(message)}


def calls_of(message):
    return [[block.name, block.input] for block in message.content if block.type == "tool_use"]


def tools(client, order):
    first = client.messages.create(**asked(order, tools=[TOOL]))
    call = next(block for block in first.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees"}
    messages = said(order) + [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(model=order["model"], max_tokens=64, messages=messages, tools=[TOOL])
    return {"finish": first.stop_reason, "calls": calls_of(first), "text": text(second)}


def tools_stream(client, order):
    with client.messages.stream(**asked(order, tools=[TOOL])) as events:
        message = events.get_final_message()
    return {"finish": message.stop_reason, "calls": calls_of(message)}


def count(client, order):
    return {"tokens": client.messages.count_tokens(model=order["model"], messages=said(order)).input_tokens}


def models(client, order):
    return {"ids": sorted(model.id for model in client.models.list())}


def failed(error, order):
    response = getattr(error, "response", None)
    body = getattr(error, "body", None)
    found = {"class": type(error).__name__, "message": str(error), "seen": "".join(order.get("seen", []))}
    found["status"] = getattr(error, "status_code", None)
    found["type"] = body["error"].get("type") if isinstance(body, dict) and isinstance(body.get("error"), dict) else None
    found["retry_after"] = response.headers.get("retry-after") if response is not None else None
    found["request_id"] = getattr(error, "request_id", None)
    return found


def main():
    told = json.loads(sys.argv[1])
    options = {"base_url": told["base_url"], "api_key": told["key"]} if told.get("base_url") else {}
    for order in told["orders"]:
        client = anthropic.Anthropic(max_retries=0, timeout=order.get("timeout_s", 60), **options)
        try:
            outcome = {"ok": globals()[order["do"]](client, order)}
        except anthropic.AnthropicError as error:
            outcome = {"error": failed(error, order)}
        print(json.dumps(outcome), flush=True)


main()
