//! The program from outside: arguments, output, exit codes.

use std::{
    ffi::OsString,
    io::Write,
    process::{Command, Stdio},
};

use agentos_proof::FindingKind;

use crate::log::{TestLog, verifier_key};

/// Exit code, standard output, standard error.
pub fn run(arguments: Vec<OsString>) -> (u8, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_agent-os-verify")).args(arguments).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap().try_into().unwrap(), text(output.stdout), text(output.stderr))
}

/// The same with bytes on standard input.
pub fn run_with(arguments: Vec<OsString>, input: &str) -> (u8, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-os-verify"));
    let mut child = command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // A program that has seen enough closes its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap().try_into().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn check(arguments: &[&str], code: u8, part: &str) {
    let (actual, stdout, stderr) = run(arguments.iter().map(OsString::from).collect());
    assert_eq!(actual, code, "{arguments:?}: {stdout}{stderr}");
    assert!(format!("{stdout}{stderr}").contains(part), "{arguments:?}: {stdout}{stderr} lacks {part}");
}

#[test]
fn usage() {
    check(&["--version"], 0, "agent-os-verify ");
    for kind in FindingKind::ALL {
        check(&["--help"], 0, &format!("{:2}  {kind}: {}", kind.exit_code(), kind.meaning()));
    }
    check(&[], 2, "--key is missing");
    check(&["--key", "k"], 2, "exactly one of --db and --segment");
    check(&["--key", "k", "--db", "d", "--segment", "s"], 2, "exactly one of --db and --segment");
    check(&["--key", "k", "--db"], 2, "--db needs a file");
    check(&["--key", "k", "--key", "l", "--db", "d"], 2, "--key is given too often");
    check(&["--fast"], 2, "unknown argument '--fast'");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let log = TestLog::new();
    let database = log.path();
    let (database, directory) = (database.to_str().unwrap(), log.directory.path().to_str().unwrap());
    let key = log.file("key", &format!("{}\n", verifier_key()));
    let key = key.to_str().unwrap();
    let garbage = log.file("garbage", "garbage");
    let garbage = garbage.to_str().unwrap();
    check(&["--db", database, "--key", "/nonexistent/key"], 3, "/nonexistent/key");
    check(&["--db", database, "--key", garbage], 3, "name+id+key");
    check(&["--db", database, "--key", directory], 3, directory);
    check(&["--db", "/nonexistent/db", "--key", key], 3, "/nonexistent/db");
    check(&["--db", garbage, "--key", key], 3, "garbage");
    check(&["--segment", garbage, "--key", key], 3, "garbage");
    check(&["--segment", "/nonexistent/segment", "--key", key], 3, "/nonexistent/segment");
    check(&["--db", database, "--key", key, "--held", "/nonexistent/note"], 3, "/nonexistent/note");
    check(&["--db", database, "--key", key, "--held", garbage], 16, "held checkpoint");
}

#[test]
fn a_green_report_says_what_was_shown_and_what_was_not() {
    let log = TestLog::new();
    let database = log.path();
    let key = log.file("key", &verifier_key().to_string());
    let note = log.file("note", &log.note(9));
    let base = ["--db", database.to_str().unwrap(), "--key", key.to_str().unwrap()];
    check(&base, 0, "records       16 (from 0 up to size 16)");
    check(&base, 0, "note: no held checkpoint was given");
    let held = [base.as_slice(), &["--held", note.to_str().unwrap()]].concat();
    check(&held, 0, "checkpoints   4 stored, 1 held");
}

/// A held file as a witness has it: many notes, those of other logs among them, one cut by a crash.
#[test]
fn a_witness_file_is_a_held_file() {
    let log = TestLog::new();
    let other = agentos_proof::checkpoint::sign(&crate::log::signing_key(2), "agent-os/node-2", 3, &[0; 32]);
    let key = log.file("key", &verifier_key().to_string());
    let database = log.path();
    let base = ["--db", database.to_str().unwrap(), "--key", key.to_str().unwrap(), "--held"];
    let verify = |held: &str, code: u8, part: &str| {
        let file = log.file("held", held);
        check(&[base.as_slice(), &[file.to_str().unwrap()]].concat(), code, part);
    };
    let all = format!("{}{other}{}{}", log.note(5), log.note(9), log.note(16));
    verify(&all, 0, "4 stored, 3 held");
    verify(&all, 0, "note: 1 held checkpoints are those of other logs");
    verify(&format!("{all}agent-os/node-1\n20"), 0, "note: 2 lines of the held files");
    verify(&other, FindingKind::CheckpointSignature.exit_code(), "none is of 'agent-os/node-1'");
    log.rewrite(Some(&crate::log::signing_key(1)));
    verify(&all, FindingKind::Fork.exit_code(), "fork");
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let log = TestLog::new();
    let database = log.path();
    let key = log.file("key", &verifier_key().to_string());
    let escape = "\u{1b}]0;owned\u{7}";
    let (body, hash) = agentos_proof::leaf::encode(escape, 7, &log.leaf_hash(6), &crate::log::event(7)).unwrap();
    let sql = "UPDATE audit_record SET body = ?1, leaf_hash = ?2 WHERE seq = 7";
    log.connection.execute(sql, (body, hash)).unwrap();
    let (code, stdout, stderr) = run(vec!["--db".into(), database.into(), "--key".into(), key.into()]);
    assert_eq!(code, FindingKind::Reordered.exit_code());
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "{stdout}{stderr}");
}
