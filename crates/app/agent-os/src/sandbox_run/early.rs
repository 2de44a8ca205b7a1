//! The launcher of `sandbox run`, started before the command line is read: it gets ready on one processor while the other
//! reads it. What is looked for here is only a guess, which costs a process if it is wrong.

use std::ffi::OsString;

use agentos_protocol::sandbox::Profile;
use agentos_sandbox::Early;

use super::options;

/// `None` where it would not be used, and for every failure: it comes again, with its reason, when there is somebody to tell.
pub fn start(args: &[OsString]) -> Option<Early> {
    Early::start(options().ok()?, profile(args)?).ok()
}

/// Of a launcher that needs no trial.
fn profile(args: &[OsString]) -> Option<Profile> {
    let words: Vec<&str> = args.iter().skip(1).map(|word| word.to_str().unwrap_or_default()).collect();
    let ["sandbox", "run", words @ ..] = words.as_slice() else { return None };
    let mut profile = Profile::Agent;
    let mut words = words.iter().take_while(|word| **word != "--");
    while let Some(word) = words.next() {
        match word.split_once('=').unwrap_or((word, "")) {
            // With a limit this process first has to leave its group, and nobody may be left behind in it.
            ("--strict" | "--report" | "--mem" | "--cpu" | "--pids" | "--help" | "-h", _) => return None,
            ("--profile", "") => profile = Profile::parse(words.next()?)?,
            ("--profile", name) => profile = Profile::parse(name)?,
            _ => {}
        }
    }
    Some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_guessed_where_a_launcher_is_wanted_at_once() {
        for (line, expected) in [
            ("agent-os sandbox run -- true", Some(Profile::Agent)),
            ("agent-os sandbox run true", Some(Profile::Agent)),
            ("agent-os sandbox run --rw x --profile dev -- true", Some(Profile::Dev)),
            ("agent-os sandbox run --profile=strict -- true --report x", Some(Profile::Strict)),
            ("agent-os sandbox run --profile all -- true", None),
            ("agent-os sandbox run --profile", None),
            ("agent-os sandbox run --report x -- true", None),
            ("agent-os sandbox run --report=x -- true", None),
            ("agent-os sandbox run --strict -- true", None),
            ("agent-os sandbox run --mem 64M -- true", None),
            ("agent-os sandbox run --cpu=50 -- true", None),
            ("agent-os sandbox run --pids 9 -- true", None),
            ("agent-os sandbox run -- true --mem 64M", Some(Profile::Agent)),
            ("agent-os sandbox run --help", None),
            ("agent-os sandbox", None),
            ("agent-os up", None),
            ("agent-os", None),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(profile(&args), expected, "{line}");
        }
    }
}
