//! What the program is told on its command line: which of its lives it leads. Nothing here comes from an agent.

use std::ffi::OsString;

use agentos_protocol::sandbox::Profile;

pub const USAGE: &str = "usage: agent-os-launch --serve --parent PID --profile PROFILE [--backend native|bwrap|none] \
                         [--trial yes|no] \
                         (started by agent-os, not by hand)";

/// Who makes the walls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Native,
    Bwrap,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    pub parent: i32,
    pub profile: Profile,
    pub backend: Backend,
    /// Make a whole sandbox first, to be able to tell which walls there are. One that is made for a single command goes
    /// without: each wall of it stands, or it is not made.
    pub has_trial: bool,
}

/// What a launcher inside of bwrap's namespaces cannot know by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    pub profile: Profile,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Makes sandboxes until the socket closes.
    Serve(ServeOptions),
    /// The stages after bwrap has made the namespaces.
    Inside(Inside),
    /// Ends at once: the program of a sandbox that only shows that there can be one.
    Nothing,
    Version,
    Wrong(String),
}

pub fn parse(words: &[OsString]) -> Mode {
    let texts: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    match texts.as_slice() {
        ["--inside", profile] => match Profile::parse(profile) {
            Some(profile) => Mode::Inside(Inside { profile }),
            None => Mode::Wrong(USAGE.to_owned()),
        },
        ["--nothing"] => Mode::Nothing,
        ["--version"] => Mode::Version,
        ["--serve", rest @ ..] if texts.len() == words.len() => serve(rest).map_or_else(Mode::Wrong, Mode::Serve),
        _ => Mode::Wrong(USAGE.to_owned()),
    }
}

fn serve(words: &[&str]) -> Result<ServeOptions, String> {
    let (mut parent, mut profile, mut backend, mut trial) = (None, None, None, None);
    for pair in words.chunks(2) {
        let [flag, value] = pair else { return Err(USAGE.to_owned()) };
        let is_new = match *flag {
            "--parent" => replace(&mut parent, value.parse().ok().filter(|pid| *pid > 0)),
            "--profile" => replace(&mut profile, Profile::parse(value)),
            "--backend" => replace(&mut backend, backend_named(value)),
            "--trial" => replace(
                &mut trial,
                [("yes", true), ("no", false)]
                    .into_iter()
                    .find_map(|(word, is_wanted)| (word == *value).then_some(is_wanted)),
            ),
            _ => false,
        };
        if !is_new {
            return Err(USAGE.to_owned());
        }
    }
    let (Some(parent), Some(profile)) = (parent, profile) else { return Err(USAGE.to_owned()) };
    Ok(ServeOptions { parent, profile, backend: backend.unwrap_or(Backend::Native), has_trial: trial.unwrap_or(true) })
}

/// False for a word that is not valid, and for a flag that comes twice.
fn replace<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    slot.is_none() && value.is_some_and(|value| slot.replace(value).is_none())
}

fn backend_named(text: &str) -> Option<Backend> {
    match text {
        "native" => Some(Backend::Native),
        "bwrap" => Some(Backend::Bwrap),
        "none" => Some(Backend::None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Mode {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_server_names_parent_profile_and_back_end() {
        let wanted = ServeOptions { parent: 17, profile: Profile::Agent, backend: Backend::Bwrap, has_trial: true };
        let words = ["--serve", "--parent", "17", "--profile", "agent", "--backend", "bwrap"];
        assert_eq!(parsed(&words), Mode::Serve(wanted.clone()));
        assert_eq!(parsed(&words[..5]), Mode::Serve(ServeOptions { backend: Backend::Native, ..wanted.clone() }));
        let untried = [&words[..], &["--trial", "no"]].concat();
        assert_eq!(parsed(&untried), Mode::Serve(ServeOptions { has_trial: false, ..wanted }));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for words in [
            &["--serve"][..],
            &["--serve", "--parent", "17"],
            &["--serve", "--profile", "agent"],
            &["--serve", "--parent", "0", "--profile", "agent"],
            &["--serve", "--parent", "17", "--profile", "all"],
            &["--serve", "--parent", "17", "--profile"],
            &["--serve", "--parent", "17", "--profile", "agent", "--parent", "18"],
            &["--serve", "--parent", "17", "--profile", "agent", "--backend", "docker"],
            &["--serve", "--parent", "17", "--profile", "agent", "--more", "1"],
            &["--serve", "--parent", "17", "--profile", "agent", "--trial", "maybe"],
            &["--inside", "none"],
            &["--init", "strict"],
            &["--parent", "17"],
            &[],
        ] {
            assert_eq!(parsed(words), Mode::Wrong(USAGE.to_owned()), "{words:?}");
        }
    }
}
