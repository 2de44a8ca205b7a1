//! The reference page of the command line, from the same tree that parses it, so that the page cannot be wrong.

use clap::{Arg, Command};

use crate::{Exit, PROGRAM};

/// The page as Markdown. Deterministic: it depends on nothing but this program.
pub fn reference_markdown() -> String {
    let mut root = crate::command();
    root.build();
    let mut page = String::from(
        "# Command line\n\n\
         Data goes to standard output, everything else to standard error. Errors have a code, which `agent-os explain CODE`\n\
         explains, and a `hint:` line that says what to do.\n\n\
         ## Exit codes\n\n| code | meaning |\n|---|---|\n",
    );
    for exit in Exit::ALL {
        page.push_str(&format!("| {} | {} |\n", exit.code(), exit.meaning()));
    }
    page.push_str(
        "\n`sandbox run` ends as its command does: with its status, 128 and the number of the signal that ended it, or 124\n\
         after `--time`.\n",
    );
    page.push_str(
        "\n## Environment\n\n| variable | meaning |\n|---|---|\n\
         | `AGENT_OS_HOME` | data directory, when `--data-dir` is not given |\n\
         | `AGENT_OS_URL` | address of the server, when `--url` is not given |\n\
         | `AGENT_OS_TOKEN` | token, instead of the one in the data directory |\n\
         \nSettings of the server have variables of their own: `agent-os config schema`.\n",
    );
    page.push_str("\n## Global options\n\n");
    page.push_str(&options(root.get_arguments().filter(|arg| arg.is_global_set())));
    page.push_str("\n## Commands\n");
    for command in root.get_subcommands() {
        section(&mut page, PROGRAM, command);
    }
    page
}

fn section(page: &mut String, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    page.push_str(&format!("\n### `{name}`\n\n{about}.\n"));
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            section(page, &name, inner);
        }
        return;
    }
    page.push_str(&format!("\n```text\n{}\n```\n", usage(&name, command)));
    let own: Vec<_> = command.get_arguments().filter(|arg| !arg.is_global_set() && !is_built_in(arg)).collect();
    if !own.is_empty() {
        page.push('\n');
        page.push_str(&options(own.into_iter()));
    }
}

/// Written by hand, because clap's own line would list the global options on each.
fn usage(name: &str, command: &Command) -> String {
    let mut text = name.to_owned();
    if command.get_arguments().any(|arg| !arg.is_positional() && !arg.is_global_set() && !is_built_in(arg)) {
        text.push_str(" [OPTIONS]");
    }
    for arg in command.get_positionals() {
        let value = value_name(arg);
        text.push_str(&if arg.is_required_set() { format!(" {value}") } else { format!(" [{value}]") });
    }
    text
}

fn options<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = String::from("| argument | meaning |\n|---|---|\n");
    for arg in args {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        table.push_str(&format!("| {} | {}{} |\n", spelling(arg), cell(&help), cell(&values(arg))));
    }
    table
}

fn spelling(arg: &Arg) -> String {
    let value = if arg.get_action().takes_values() { format!(" {}", value_name(arg)) } else { String::new() };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
        (None, Some(long)) => format!("`--{long}{value}`"),
        _ => format!("`{}`", value_name(arg)),
    }
}

/// Choices and default, as far as the help text does not say them itself.
fn values(arg: &Arg) -> String {
    let mut text = String::new();
    let choices = arg.get_possible_values();
    if arg.get_action().takes_values() && !choices.is_empty() {
        let names: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.get_name())).collect();
        text.push_str(&format!("; one of {}", names.join(", ")));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        text.push_str(&format!(" [default: `{}`]", defaults.join(",")));
    }
    text
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map(ToString::to_string).unwrap_or_else(|| arg.get_id().to_string().to_uppercase())
}

fn is_built_in(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

/// A bar would end the cell, and an angle bracket would start a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}
