"""The official OpenAI client for Python, driven by a test: takes {"base_url", "key", "orders": [...]} as its argument, does the
orders one after the other, and prints a line of JSON for each: {"ok": ...} or {"error": ...} with the class of the client's own
exception. Without base_url and key it is made as its documentation says, from the environment alone.
"""
import json
import sys

import openai

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def usage(found):
    if found is None:
        return None
    if hasattr(found, "prompt_tokens"):
        return [found.prompt_tokens, getattr(found, "completion_tokens", None)]
    return [found.input_tokens, found.output_tokens]


def said(order):
    return [{"role": "user", "content": order.get("text", "hello")}]


def more(order):
    return order.get("more", {})


def chat(client, order):
    answer = client.chat.completions.create(model=order["model"], messages=said(order), **more(order))
    choice = answer.choices[0]
    return {"text": choice.message.content, "finish": choice.finish_reason, "usage": usage(answer.usage)}


def stream(client, order):
    texts, finish, cost = [], None, None
    seen = order.setdefault("seen", texts)
    for chunk in client.chat.completions.create(model=order["model"], messages=said(order), stream=True, **more(order)):
        cost = usage(chunk.usage) or cost
        for choice in chunk.choices:
            if choice.delta.content:
                texts.append(choice.delta.content)
            finish = choice.finish_reason or finish
        if order.get("stop_after") and len(texts) >= order["stop_after"]:
            break
    return {"text": "".join(seen), "pieces": len(texts), "finish": finish, "usage": cost}


def tools(client, order):
    messages = said(order)
    first = client.chat.completions.create(model=order["model"], messages=messages, tools=[TOOL], **more(order))
    message = first.choices[0].message
    call = message.tool_calls[0]
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}]
    second = client.chat.completions.create(model=order["model"], messages=messages, tools=[TOOL])
    return {
        "finish": first.choices[0].finish_reason,
        "calls": [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls],
        "text": second.choices[0].message.content,
    }


def tools_stream(client, order):
    with client.chat.completions.stream(model=order["model"], messages=said(order), tools=[TOOL], **more(order)) as events:
        for _ in events:
            pass
        choice = events.get_final_completion().choices[0]
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls]
    return {"finish": choice.finish_reason, "calls": calls}


def schema(client, order):
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    answer = client.chat.completions.create(
        model=order["model"], messages=said(order), response_format=form, **more(order)
    )
    return {"json": json.loads(answer.choices[0].message.content)}


def embeddings(client, order):
    answer = client.embeddings.create(model=order["model"], input=order["input"], **more(order))
    return {"vectors": [entry.embedding for entry in answer.data], "tokens": answer.usage.prompt_tokens}


def models(client, order):
    return {"ids": sorted(model.id for model in client.models.list())}


def responses(client, order):
    answer = client.responses.create(model=order["model"], input=order.get("text", "hello"), **more(order))
    return {"text": answer.output_text, "status": answer.status, "usage": usage(answer.usage)}


def responses_stream(client, order):
    texts = []
    with client.responses.stream(model=order["model"], input=order.get("text", "hello"), **more(order)) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
        answer = events.get_final_response()
    return {"text": answer.output_text, "pieces": len(texts), "status": answer.status, "usage": usage(answer.usage)}


def responses_tools(client, order):
    tool = {"type": "function", "strict": False, **TOOL["function"]}
    answer = client.responses.create(model=order["model"], input=order.get("text", "hello"), tools=[tool])
    calls = [[item.name, json.loads(item.arguments)] for item in answer.output if item.type == "function_call"]
    return {"calls": calls}


def failed(error, order):
    response = getattr(error, "response", None)
    found = {"class": type(error).__name__, "message": str(error), "seen": "".join(order.get("seen", []))}
    found["status"] = getattr(error, "status_code", None)
    found["code"] = getattr(error, "code", None)
    found["type"] = getattr(error, "type", None)
    found["retry_after"] = response.headers.get("retry-after") if response is not None else None
    found["request_id"] = response.headers.get("x-request-id") if response is not None else None
    return found


def main():
    told = json.loads(sys.argv[1])
    options = {"base_url": told["base_url"], "api_key": told["key"]} if told.get("base_url") else {}
    for order in told["orders"]:
        client = openai.OpenAI(max_retries=0, timeout=order.get("timeout_s", 60), **options)
        try:
            outcome = {"ok": globals()[order["do"]](client, order)}
        except openai.OpenAIError as error:
            outcome = {"error": failed(error, order)}
        print(json.dumps(outcome), flush=True)


main()
