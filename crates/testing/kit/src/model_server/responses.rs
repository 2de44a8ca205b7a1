//! OpenAI's responses, as that provider writes them.

use serde_json::{Value, json};

use super::{
    chat::halves,
    said::{Said, Why},
    talk::Talk,
};

const CREATED: u64 = 1_741_476_777;

fn items(said: &Said, status: &str) -> Vec<Value> {
    if said.calls.is_empty() {
        let part = json!({"type": "output_text", "text": said.text, "annotations": [], "logprobs": []});
        return vec![json!({
            "id": "msg_test", "type": "message", "role": "assistant", "status": status, "content": [part],
        })];
    }
    let call = |(id, name, arguments): &(String, String, Value)| {
        json!({
            "id": format!("fc_{id}"), "type": "function_call", "call_id": id, "name": name,
            "arguments": arguments.to_string(), "status": status,
        })
    };
    said.calls.iter().map(call).collect()
}

fn response(talk: &Talk, said: &Said, status: &str, output: Vec<Value>) -> Value {
    let reason = match said.why {
        Why::Length => json!({"reason": "max_output_tokens"}),
        Why::Filter => json!({"reason": "content_filter"}),
        Why::Stop | Why::Tools => Value::Null,
    };
    let is_over = status != "in_progress";
    let usage = said.usage.filter(|_| is_over).map(|(input, output)| {
        json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output,
        })
    });
    json!({
        "id": "resp_test", "object": "response", "created_at": CREATED, "status": status, "background": false,
        "error": null, "incomplete_details": if is_over { reason } else { Value::Null }, "instructions": null,
        "max_output_tokens": talk.output_max, "model": talk.model, "output": output, "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": false,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": null, "metadata": {},
    })
}

fn ending(said: &Said) -> &'static str {
    match said.why {
        Why::Stop | Why::Tools => "completed",
        Why::Length | Why::Filter => "incomplete",
    }
}

pub fn whole(talk: &Talk, said: &Said) -> Value {
    response(talk, said, ending(said), items(said, "completed"))
}

pub fn events(talk: &Talk, said: &Said) -> Vec<String> {
    let mut events: Vec<(String, Value)> = Vec::new();
    let mut push = |name: &str, fields: Value| events.push((name.to_owned(), fields));
    push("response.created", json!({"response": response(talk, said, "in_progress", Vec::new())}));
    push("response.in_progress", json!({"response": response(talk, said, "in_progress", Vec::new())}));
    let blank = Said { text: String::new(), calls: said.calls.clone(), why: said.why, usage: None };
    let (begun, done) = (items(&blank, "in_progress"), items(said, "completed"));
    for (index, (begun, done)) in begun.into_iter().zip(done).enumerate() {
        let mut begun = begun;
        let id = begun["id"].clone();
        if done["type"] == "message" {
            begun["content"] = json!([]);
            push("response.output_item.added", json!({"output_index": index, "item": begun}));
            let at = |more: Value| with(json!({"item_id": id, "output_index": index, "content_index": 0}), more);
            let part = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
            push("response.content_part.added", at(json!({"part": part})));
            for piece in said.pieces() {
                push("response.output_text.delta", at(json!({"delta": piece, "logprobs": []})));
            }
            push("response.output_text.done", at(json!({"text": said.text, "logprobs": []})));
            push("response.content_part.done", at(json!({"part": done["content"][0]})));
        } else {
            begun["arguments"] = json!("");
            push("response.output_item.added", json!({"output_index": index, "item": begun}));
            let at = |more: Value| with(json!({"item_id": id, "output_index": index}), more);
            for part in halves(done["arguments"].as_str().unwrap_or_default()) {
                push("response.function_call_arguments.delta", at(json!({"delta": part})));
            }
            let whole = json!({"arguments": done["arguments"], "name": done["name"]});
            push("response.function_call_arguments.done", at(whole));
        }
        push("response.output_item.done", json!({"output_index": index, "item": done}));
    }
    let whole = whole(talk, said);
    push(
        if ending(said) == "completed" { "response.completed" } else { "response.incomplete" },
        json!({"response": whole}),
    );
    events.into_iter().enumerate().map(|(number, (name, fields))| frame(&name, number, fields)).collect()
}

fn with(mut fields: Value, more: Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        fields[name] = value.clone();
    }
    fields
}

fn frame(name: &str, number: usize, fields: Value) -> String {
    let whole = with(json!({"type": name, "sequence_number": number}), fields);
    format!("event: {name}\ndata: {whole}\n\n")
}

pub fn error_event() -> String {
    let fields = json!({"code": "server_error", "message": "the script says stop", "param": null});
    frame("error", 99, fields)
}
