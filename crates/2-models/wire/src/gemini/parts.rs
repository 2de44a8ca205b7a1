//! Parts of a content, both ways.
//!
//! A thought's signature stands on the part behind the thought: on the call of a function, which the provider refuses without
//! it, or on a text. In our types it is a thought's own, marked as Gemini's so that no other provider gets it.

use std::collections::HashMap;

use crate::{
    ImageSource, Object, Part, Protocol, Raw, Refusal, Turn,
    fields::{self, Build, join, malformed},
    messages::blocks::{GEMINI_SIGNATURE, arguments_object},
};

fn no_place(field: impl Into<String>) -> Refusal {
    Refusal::NoPlace { field: field.into(), protocol: Protocol::Gemini }
}

/// Which function each call called: a response names its function here, a result elsewhere names only its call.
pub struct CallNames<'a>(HashMap<&'a str, &'a str>);

impl<'a> CallNames<'a> {
    pub fn of(turns: &'a [Turn]) -> Self {
        let calls = turns.iter().flat_map(|turn| &turn.parts).filter_map(|part| match part {
            Part::ToolCall { id, name, .. } => Some((id.as_str(), name.as_str())),
            _ => None,
        });
        Self(calls.collect())
    }
}

/// What Google tells to write where a model that was another one made the call: models of the third generation refuse the
/// first call of a turn without any signature.
const FOREIGN_CALL: &str = "skip_thought_signature_validator";

/// Responses of functions, and the other parts. `signed`: the model wants calls to be signed.
pub fn write(parts: &[Part], names: &CallNames<'_>, signed: bool, path: &str) -> Result<(Vec<Raw>, Vec<Raw>), Refusal> {
    let mut first_call = signed;
    let (mut results, mut others) = (Vec::new(), Vec::new());
    let mut signature: Option<&str> = None;
    for (at, part) in parts.iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        match part {
            Part::ToolResult { call, parts, is_error, extra, .. } => {
                fields::only(extra, &[], &path, Protocol::Gemini)?;
                let name = names.0.get(call.as_str());
                let name = name.ok_or_else(|| malformed(&*path, format!("there is no call '{call}' before it")))?;
                results.push(write_result(call, name, parts, *is_error, &path)?);
            }
            Part::ToolCall { id, name, arguments, extra } => {
                fields::only(extra, &[GOOGLE_EXTRA], &path, Protocol::Gemini)?;
                let args = arguments_object(arguments, &join(&path, "arguments"))?;
                let call = Build::new().with("id", id).with("name", name).with("args", &args).object();
                let given = read_google_extra(extra, &path)?;
                let signature = given.or_else(|| signature.take().map(str::to_owned));
                let signature = signature.or_else(|| first_call.then(|| FOREIGN_CALL.to_owned()));
                first_call = false;
                let part = Build::new().with("functionCall", &call).maybe("thoughtSignature", signature);
                others.push(part.raw());
            }
            Part::Thinking { text, signature: given } => {
                others.extend(alone(signature.take()));
                if !text.is_empty() {
                    others.push(Build::new().with("text", text).with("thought", &true).raw());
                }
                signature = match given {
                    Some(given) => {
                        Some(given.strip_prefix(GEMINI_SIGNATURE).ok_or_else(|| no_place(join(&path, "signature")))?)
                    }
                    None => None,
                };
            }
            Part::HiddenThinking { .. } => return Err(no_place(join(&path, "redacted_thinking"))),
            _ => others.extend(write_plain(part, &path)?),
        }
    }
    others.extend(alone(signature));
    Ok((results, others))
}

/// The field in which Google's own endpoint for OpenAI's clients signs a call: they send it back with the call.
const GOOGLE_EXTRA: &str = "extra_content";

pub fn google_extra(signature: &str) -> Object {
    let google = Build::new().with("thought_signature", signature).object();
    Build::new().with("google", &google).object()
}

fn read_google_extra(extra: &Object, path: &str) -> Result<Option<String>, Refusal> {
    let Some(raw) = extra.get(GOOGLE_EXTRA).filter(|raw| raw.get() != "null") else { return Ok(None) };
    let path = join(path, GOOGLE_EXTRA);
    let mut outer = fields::object(raw, &path)?;
    let mut google: Object = fields::optional(&mut outer, &path, "google")?.unwrap_or_default();
    fields::only(&outer, &[], &path, Protocol::Gemini)?;
    let path = join(&path, "google");
    let signature = fields::optional(&mut google, &path, "thought_signature")?;
    fields::only(&google, &[], &path, Protocol::Gemini)?;
    Ok(signature)
}

/// A signature behind which there is no call.
fn alone(signature: Option<&str>) -> Option<Raw> {
    signature.map(|signature| Build::new().with("text", "").with("thoughtSignature", signature).raw())
}

/// Text and images. `None` is an empty text.
pub fn write_plain(part: &Part, path: &str) -> Result<Option<Raw>, Refusal> {
    Ok(Some(match part {
        Part::Text { text, .. } if text.is_empty() => return Ok(None),
        Part::Text { text, extra, .. } => {
            fields::only(extra, &[], path, Protocol::Gemini)?;
            Build::new().with("text", text).raw()
        }
        Part::Refusal { text } => Build::new().with("text", text).raw(),
        Part::Image { source: ImageSource::Inline { media_type, data }, extra, .. } => {
            fields::only(extra, &[], path, Protocol::Gemini)?;
            inline(media_type, data).raw()
        }
        // The provider reads its own stores only, and fetching it is not for this crate.
        Part::Image { source: ImageSource::Url(_), .. } => return Err(no_place(join(path, "image by URL"))),
        Part::Other { kind, .. } => return Err(no_place(join(path, kind))),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Thinking { .. } | Part::HiddenThinking { .. } => {
            return Err(malformed(path, "only text and images can stand here"));
        }
    }))
}

fn inline(media_type: &str, data: &str) -> Build {
    Build::new().with("inlineData", &Build::new().with("mimeType", media_type).with("data", data).object())
}

/// What a function gave is an object: `output`, or `error`.
fn write_result(call: &str, name: &str, parts: &[Part], is_error: bool, path: &str) -> Result<Raw, Refusal> {
    let mut text = String::new();
    let mut images = Vec::new();
    for part in parts {
        match part {
            Part::Text { text: more, extra, .. } => {
                fields::only(extra, &[], path, Protocol::Gemini)?;
                text.push_str(more);
            }
            other => images.extend(write_plain(other, path)?),
        }
    }
    let response = Build::new().with(if is_error { "error" } else { "output" }, &text).object();
    let result = Build::new().with("id", call).with("name", name).with("response", &response).list("parts", &images);
    Ok(Build::new().with("functionResponse", &result.object()).raw())
}

pub fn has_cache_hint(part: &Part) -> bool {
    match part {
        Part::Text { cache, .. } | Part::Image { cache, .. } => cache.is_some(),
        Part::ToolResult { cache, parts, .. } => cache.is_some() || parts.iter().any(has_cache_hint),
        Part::ToolCall { .. } => false,
        _ => false,
    }
}

/// Reads one part of an answer. `call` names calls that come without an id. There may be a signature behind it.
pub fn read(raw: &Raw, path: &str, call: impl FnOnce() -> String) -> Result<Vec<Part>, Refusal> {
    let mut part = fields::object(raw, path)?;
    let signature: Option<String> = fields::optional(&mut part, path, "thoughtSignature")?;
    let signature = signature
        .map(|text| Part::Thinking { text: String::new(), signature: Some(format!("{GEMINI_SIGNATURE}{text}")) });
    let thought: bool = fields::optional(&mut part, path, "thought")?.unwrap_or(false);
    if let Some(text) = fields::optional::<String>(&mut part, path, "text")? {
        let read = if thought {
            fields::only(&part, &[], path, Protocol::Gemini)?;
            Part::Thinking { text, signature: None }
        } else {
            Part::Text { text, cache: None, extra: part }
        };
        let empty = matches!(&read, Part::Text { text, .. } | Part::Thinking { text, .. } if text.is_empty());
        return Ok((!empty).then_some(read).into_iter().chain(signature).collect());
    }
    if let Some(mut function) = fields::optional::<Object>(&mut part, path, "functionCall")? {
        let path = join(path, "functionCall");
        let id: Option<String> = fields::optional(&mut function, &path, "id")?;
        let read = Part::ToolCall {
            id: id.filter(|id| !id.is_empty()).unwrap_or_else(call),
            name: fields::required(&mut function, &path, "name")?,
            arguments: fields::optional::<Raw>(&mut function, &path, "args")?
                .map_or("{}".to_owned(), |args| args.get().to_owned()),
            extra: function,
        };
        return Ok(signature.into_iter().chain([read]).collect());
    }
    Ok(signature.into_iter().chain([read_other(raw, part, path)?]).collect())
}

fn read_other(raw: &Raw, mut part: Object, path: &str) -> Result<Part, Refusal> {
    if let Some(mut data) = fields::optional::<Object>(&mut part, path, "inlineData")? {
        let path = join(path, "inlineData");
        let media_type: String = fields::required(&mut data, &path, "mimeType")?;
        if media_type.starts_with("image/") {
            let source = ImageSource::Inline { media_type, data: fields::required(&mut data, &path, "data")? };
            return Ok(Part::Image { source, cache: None, extra: part });
        }
        return Ok(Part::Other { kind: "inlineData".to_owned(), raw: raw.clone() });
    }
    let kind = part.names().next().unwrap_or("empty part").to_owned();
    Ok(Part::Other { kind, raw: raw.clone() })
}
