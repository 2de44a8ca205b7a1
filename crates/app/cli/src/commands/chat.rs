//! `chat`: one question, or a conversation at a terminal. The answer is printed while it is written; ctrl-C ends the program,
//! and with it the call at the provider.

use std::io::{BufRead, BufReader, Read};

use agentos_client::{Client, Question};
use serde_json::{Value, json};

use super::Session;
use crate::{
    args::Chat as Args,
    exit::{Exit, Outcome, local, usage},
    table,
};

/// Bytes of one question.
const PROMPT_BYTES_MAX: u64 = 1024 * 1024;

pub(super) async fn run(session: &mut Session<'_>, args: Args) -> Outcome {
    let client = session.client()?;
    let model = match args.model {
        Some(model) => model,
        None => client
            .models()
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| usage("the token may name no model", "add a provider, or name a model with --model"))?,
    };
    let system = args.system.map(|text| json!({ "role": "system", "content": text }));
    let mut question = Question { model, messages: system.into_iter().collect() };
    match args.prompt {
        Some(prompt) => ask(session, &client, &mut question, prompt).await?,
        None if session.input.is_terminal => converse(session, &client, &mut question).await?,
        None => {
            let prompt = read_all(&mut session.input.stream)?;
            ask(session, &client, &mut question, prompt).await?;
        }
    }
    Ok(Exit::Success)
}

/// Line after line until the end of the input. A question that failed is told and leaves the conversation as it was.
async fn converse(session: &mut Session<'_>, client: &Client, question: &mut Question) -> Outcome<()> {
    session.printer.note(&format!("{}; an empty line or ctrl-D ends", question.model));
    let stream = std::mem::replace(&mut session.input.stream, Box::new(std::io::empty()));
    let mut lines = BufReader::new(stream);
    loop {
        session.printer.note(">");
        let mut line = String::new();
        let read = lines.by_ref().take(PROMPT_BYTES_MAX).read_line(&mut line);
        read.map_err(|error| local("the input could not be read", error))?;
        if line.trim().is_empty() {
            return Ok(());
        }
        ask(session, client, question, line.trim_end().to_owned()).await?;
    }
}

async fn ask(session: &mut Session<'_>, client: &Client, question: &mut Question, prompt: String) -> Outcome<()> {
    question.messages.push(json!({ "role": "user", "content": prompt }));
    let mut chat = client.chat(question).await?;
    let (mut answer, is_shown) = (String::new(), session.printer.is_for_people());
    while let Some(text) = chat.text().await? {
        if is_shown {
            session.printer.raw(shown(&text).as_bytes())?;
        }
        answer.push_str(&text);
    }
    match is_shown {
        true => session.printer.raw(b"\n")?,
        false => session.printer.report(&json!({ "model": question.model, "text": answer }), "")?,
    }
    question.messages.push(json!({ "role": "assistant", "content": Value::String(answer) }));
    Ok(())
}

/// A model's text must not steer a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && c != '\t' && table::is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

fn read_all(stream: &mut dyn Read) -> Outcome<String> {
    let mut text = String::new();
    let read = stream.take(PROMPT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| local("standard input could not be read as text", error))?;
    if text.trim().is_empty() || text.len() as u64 > PROMPT_BYTES_MAX {
        return Err(usage(format!("a question has 1 to {PROMPT_BYTES_MAX} bytes"), "agent-os chat \"…\"").into());
    }
    Ok(text)
}
