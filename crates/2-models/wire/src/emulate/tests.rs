use super::*;
use crate::{Answer, Delta, Finish, Object, Part, Role, Tool, Turn};

const WEATHER: &str = r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"],"additionalProperties":false}"#;
const ALL: Lacks = Lacks { tools: true, json_schema: true, json_object: true };

fn raw(text: &str) -> Raw {
    serde_json::from_str(text).unwrap()
}

fn tool(name: &str, schema: &str) -> Tool {
    let description = Some(format!("Tells the {name}."));
    Tool {
        name: name.to_owned(),
        description,
        schema: Some(raw(schema)),
        strict: None,
        cache: None,
        extra: Object::default(),
    }
}

fn asked(choice: Option<ToolChoice>) -> Ask {
    Ask {
        model: "small".to_owned(),
        turns: vec![Turn { role: Role::User, parts: vec![Part::text("Weather in Wien?")], extra: Object::default() }],
        tools: vec![tool("weather", WEATHER), tool("time", r#"{"type":"object"}"#)],
        tool_choice: choice,
        ..Ask::default()
    }
}

fn answer(text: &str, finish: Finish) -> Answer {
    let choice = crate::Choice { parts: vec![Part::text(text)], finish, extra: Object::default() };
    Answer { id: "chatcmpl-1.x".to_owned(), choices: vec![choice], ..Answer::default() }
}

/// `Ok` is the text or `NAME(ARGUMENTS)`.
fn read(emulation: &Emulation, text: &str) -> Result<String, String> {
    let answer = emulation.answer(answer(text, Finish::Stop)).map_err(|error| error.to_string())?;
    assert!(answer.extra.get("emulated").is_some());
    match answer.choices[0].parts.as_slice() {
        [Part::Text { text, .. }] => Ok(text.clone()),
        [Part::ToolCall { name, arguments, id, .. }] => {
            assert_eq!((id.as_str(), &answer.choices[0].finish), ("call_chatcmpl-1x_0", &Finish::ToolCalls));
            Ok(format!("{name}({arguments})"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_emulated_that_the_model_has() {
    assert!(emulate(&asked(None), Lacks { tools: false, ..ALL }).unwrap().is_none());
    assert!(emulate(&Ask::default(), ALL).unwrap().is_none());
}

#[test]
fn a_call_or_a_reply_is_found() {
    let (words, emulation) = emulate(&asked(None), ALL).unwrap().unwrap();
    assert!(words.tools.is_empty() && words.tool_choice.is_none());
    let Some(Part::Text { text, .. }) = words.system.last() else { panic!() };
    assert!(text.contains(WEATHER) && text.contains("Tells the weather.") && text.contains("\"reply\""), "{text}");
    assert_eq!(emulation.what(), ["tools"]);
    let read = |text| read(&emulation, text);
    assert_eq!(
        read(r#"{"tool":"weather","arguments":{"city":"Wien","days":2}}"#).unwrap(),
        r#"weather({"city":"Wien","days":2})"#
    );
    assert_eq!(read("```json\n{\"tool\":\"time\"}\n```").unwrap(), "time({})");
    assert_eq!(read(r#"{"reply":"Sunny."}"#).unwrap(), "Sunny.");
    assert_eq!(read("Sunny.").unwrap(), "Sunny.", "it was free to answer");
    for (wrong, why) in [
        (r#"{"tool":"weather","arguments":{"days":2}}"#, "'city' is missing"),
        (r#"{"tool":"weather","arguments":{"city":7}}"#, "'city' is of another type"),
        (r#"{"tool":"weather","arguments":{"city":"a","x":1}}"#, "'x' was not asked for"),
        (r#"{"tool":"weather","arguments":["Wien"]}"#, "no JSON object"),
        (r#"{"tool":"email","arguments":{}}"#, "no tool 'email'"),
        (r#"{"tool":"time","reply":"x"}"#, "something else"),
        (r#"{"tool":"time","tool":"weather"}"#, "comes twice"),
        (r#"{"tool":"time","#, "no JSON"),
        (r#"{"answer":"x"}"#, "answer.tool"),
    ] {
        assert!(read(wrong).is_err_and(|error| error.contains(why)), "{wrong}: {:?}", read(wrong));
    }
}

#[test]
fn a_required_or_fixed_call_is_never_prose() {
    let (_, emulation) = emulate(&asked(Some(ToolChoice::Required)), ALL).unwrap().unwrap();
    assert!(read(&emulation, "Sunny.").is_err());
    assert!(read(&emulation, r#"{"reply":"Sunny."}"#).is_err());
    let (words, emulation) = emulate(&asked(Some(ToolChoice::Named("weather".to_owned()))), ALL).unwrap().unwrap();
    assert!(format!("{:?}", words.system).contains("Call the tool 'weather'"));
    assert_eq!(read(&emulation, r#" {"city":"Wien"} "#).unwrap(), r#"weather({"city":"Wien"})"#);
    assert!(read(&emulation, "{}").is_err_and(|error| error.contains("'city' is missing")));
    let unknown = emulate(&asked(Some(ToolChoice::Named("email".to_owned()))), ALL);
    assert!(unknown.unwrap_err().to_string().contains("no tool 'email'"));
}

#[test]
fn a_model_that_takes_schemas_is_constrained() {
    let lacks = Lacks { tools: true, ..Lacks::default() };
    let (words, _) = emulate(&asked(None), lacks).unwrap().unwrap();
    let Format::Schema { schema, .. } = &words.format else { panic!() };
    let schema: serde_json::Value = serde_json::from_str(schema.get()).unwrap();
    assert_eq!(schema["anyOf"].as_array().unwrap().len(), 3);
    assert_eq!(schema["anyOf"][0]["properties"]["tool"]["const"], "weather");
    let (words, _) = emulate(&asked(Some(ToolChoice::Named("weather".to_owned()))), lacks).unwrap().unwrap();
    let Format::Schema { schema, .. } = &words.format else { panic!() };
    assert_eq!(schema.get(), WEATHER, "the arguments alone");
    let mut ask = asked(None);
    ask.tools.push(tool("ref", r##"{"$ref":"#/$defs/a","$defs":{"a":{"type":"object"}}}"##));
    assert!(matches!(emulate(&ask, lacks).unwrap().unwrap().0.format, Format::Json), "references do not nest");
}

#[test]
fn past_calls_are_retold() {
    let mut ask = asked(Some(ToolChoice::None));
    let call = Part::ToolCall {
        id: "c1".to_owned(),
        name: "weather".to_owned(),
        arguments: r#"{"city":"Wien"}"#.to_owned(),
        extra: Object::default(),
    };
    let result = Part::ToolResult {
        call: "c1".to_owned(),
        parts: vec![Part::text("12 °C")],
        is_error: false,
        cache: None,
        extra: Object::default(),
    };
    ask.turns.push(Turn { role: Role::Assistant, parts: vec![call], extra: Object::default() });
    ask.turns.push(Turn { role: Role::Tool, parts: vec![result], extra: Object::default() });
    ask.turns.push(Turn { role: Role::User, parts: vec![Part::text("And now?")], extra: Object::default() });
    let (words, emulation) = emulate(&ask, ALL).unwrap().unwrap();
    assert!(!prompt::has_calls(&words.turns) && words.turns[2].role == Role::User && words.turns.len() == 3);
    assert_eq!(emulation.what(), ["tools"]);
    let told = format!("{:?}", words.turns);
    assert!(told.contains("Result of the tool 'weather':") && told.contains("12 °C"), "{told}");
    assert_eq!(read(&emulation, r#"{"x":1}"#).unwrap(), r#"{"x":1}"#, "no call is looked for where none may be");
}

#[test]
fn json_by_schema_is_checked() {
    let schema =
        r#"{"type":"object","properties":{"n":{"type":["integer","null"]},"k":{"enum":["a","b"]}},"required":["n"]}"#;
    let format = Format::Schema { name: None, description: None, schema: raw(schema), strict: None };
    let ask = Ask { format, ..Ask::default() };
    let (words, emulation) = emulate(&ask, Lacks { json_object: false, ..ALL }).unwrap().unwrap();
    assert!(matches!(words.format, Format::Json), "the next best");
    assert_eq!(emulation.what(), ["json_schema"]);
    assert_eq!(read(&emulation, "```\n{\"n\": 1.0}\n```").unwrap(), "{\"n\": 1.0}");
    for wrong in ["{}", r#"{"n":"1"}"#, r#"{"n":1,"k":"c"}"#, "[1]", "Sure! {\"n\":1}", ""] {
        assert!(read(&emulation, wrong).is_err(), "{wrong}");
    }
    let torn = emulation.answer(answer(r#"{"n":"#, Finish::Length)).unwrap();
    assert_eq!(torn.choices[0].finish, Finish::Length, "whoever reads it knows that it is torn");
}

#[test]
fn tools_of_a_provider_cannot_be_emulated() {
    let mut ask = asked(None);
    ask.tools[1].extra.put("type", raw("\"web_search_20250305\""));
    assert!(matches!(emulate(&ask, ALL), Err(Refusal::NotCapable { .. })));
}

#[test]
fn a_stream_is_held_and_then_told() {
    let (_, emulation) = emulate(&asked(None), ALL).unwrap().unwrap();
    let mut stream = emulation.stream();
    let begin = Delta::Begin { id: "a".to_owned(), model: "m".to_owned(), created_s: None };
    assert_eq!(stream.delta(begin).unwrap().len(), 2, "the mark comes first");
    for text in [r#"{"tool":"weat"#, r#"her","arguments":{"city":"Wien"}}"#] {
        assert!(stream.delta(Delta::Text { choice: 0, text: text.to_owned() }).unwrap().is_empty());
    }
    let told = stream.delta(Delta::Finish { choice: 0, finish: Finish::Stop }).unwrap();
    assert!(matches!(&told[0], Delta::ToolBegin { name, .. } if name == "weather"));
    assert!(matches!(&told[2], Delta::Finish { finish: Finish::ToolCalls, .. }));
    let mut stream = emulation.stream();
    stream.delta(Delta::Text { choice: 0, text: "{".to_owned() }).unwrap();
    assert!(stream.delta(Delta::Finish { choice: 0, finish: Finish::Stop }).is_err());
    let long = Delta::Text { choice: 0, text: "x".repeat(5 << 20) };
    assert!(emulation.stream().delta(long).is_err());
}
