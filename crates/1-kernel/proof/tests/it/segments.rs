//! Exported segments, and attacks on their lines.

use agentos_proof::{
    FindingKind::*,
    VerifierKey, VerifyError,
    source::{segment, sqlite},
};
use agentos_types::Code;

use crate::{
    Expected::{self, Found, Unreadable, Verified},
    log::{TestLog, signing_key, verifier_key},
    program::{run, run_with},
};

fn export(log: &TestLog, from: u64, until: Option<u64>) -> String {
    let mut out = Vec::new();
    sqlite::export(&log.connection, &verifier_key(), from, until, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Exports records `from..16`, attacks the lines, verifies the file twice. Line 0 is the header, line 1 record `from`.
fn check(name: &str, from: u64, attack: impl FnOnce(&mut Vec<String>), expected: Expected) {
    let log = TestLog::new();
    let mut lines: Vec<String> = export(&log, from, None).lines().map(str::to_owned).collect();
    attack(&mut lines);
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let path = log.file("segment.jsonl", &text);
    let outcome = segment::verify_file(&path, &verifier_key());
    let exit_code = match (&outcome, expected) {
        (Ok(report), Verified) => {
            assert_eq!((report.from, report.records, report.size), (from, 16 - from, 16), "{name}");
            0
        }
        (Err(VerifyError::Finding(finding)), Found(kind, seq)) => {
            assert_eq!((finding.kind, finding.seq), (kind, seq), "{name}: {finding}");
            kind.exit_code()
        }
        (Err(VerifyError::Unreadable(_)), Unreadable) => 3,
        _ => panic!("{name}: {outcome:?} instead of {expected:?}"),
    };
    let key = log.file("key", &verifier_key().to_string());
    let (code, stdout, _) = run(vec!["--segment".into(), path.into(), "--key".into(), key.into()]);
    assert_eq!(code, exit_code, "{name}: {stdout}");
}

#[test]
fn a_segment_verifies_from_anywhere() {
    for from in 0..16 {
        check("as exported", from, |_| (), Verified);
    }
    let log = TestLog::new();
    let path = log.file("part", &export(&log, 3, Some(10)));
    let report = segment::verify_file(&path, &verifier_key()).unwrap();
    assert_eq!((report.from, report.size, report.checkpoints), (3, 9, 3), "it ends at the newest checkpoint below");
    let nothing = sqlite::export(&log.connection, &verifier_key(), 9, Some(15), &mut Vec::new()).unwrap_err();
    assert_eq!(nothing.code, Code::AUDIT_QUERY_INVALID);
    log.sql("DELETE FROM audit_record WHERE seq = 2");
    let gap = sqlite::export(&log.connection, &verifier_key(), 5, None, &mut Vec::new()).unwrap_err();
    assert_eq!(gap.code, Code::AUDIT_TAMPERED, "a frontier over a gap is not made up");
}

#[test]
fn edited_lines() {
    let replace = |line: usize, from: &'static str, to: &'static str| {
        move |lines: &mut Vec<String>| {
            let changed = lines[line].replacen(from, to, 1);
            assert_ne!(lines[line], changed, "the attack changes nothing");
            lines[line] = changed;
        }
    };
    check("a body", 0, replace(8, "file.read", "file.list"), Found(HashMismatch, Some(7)));
    check("a leaf hash", 0, replace(8, "\"leaf\":\"", "\"leaf\":\"00"), Found(Edited, None));
    check("a sequence", 0, replace(8, "\"seq\":7", "\"seq\":8"), Found(Missing, Some(7)));
    check("an extra field", 0, replace(8, "{", "{\"x\":1,"), Found(Edited, None));
    check("garbage", 0, |lines| lines[8] = "garbage".into(), Found(Edited, None));
    check("no header", 0, |lines| lines[0] = "garbage".into(), Unreadable);
    check("a later format", 0, replace(0, "\"segment\":1", "\"segment\":2"), Unreadable);
    check("another start", 3, replace(0, "\"from\":3", "\"from\":4"), Found(Edited, None));
    check("another log", 0, replace(0, "node-1", "node-2"), Found(Edited, None));
    check("a frontier of another log", 4, replace_frontier, Found(CheckpointMismatch, Some(4)));
    check("a frontier that shows the last leaf", 3, replace_frontier, Found(LinkBroken, Some(3)));
    let stranger = VerifierKey::new("agent-os/node-1", signing_key(2).verifying_key()).unwrap().to_string();
    let other_key = |lines: &mut Vec<String>| lines[0] = lines[0].replace(&verifier_key().to_string(), &stranger);
    check("another key", 0, other_key, Found(CheckpointSignature, None));
}

/// The frontier keeps its size, its hashes become others.
#[expect(clippy::ptr_arg, reason = "an attack may also remove lines")]
fn replace_frontier(lines: &mut Vec<String>) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let start = lines[0].split("\"frontier\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut bytes = STANDARD.decode(&start).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    lines[0] = lines[0].replace(&start, &STANDARD.encode(bytes));
}

#[test]
fn moved_and_missing_lines() {
    check("deleted", 0, |lines| drop(lines.remove(8)), Found(Missing, Some(7)));
    check("first deleted", 5, |lines| drop(lines.remove(1)), Found(Missing, Some(5)));
    check("repeated", 0, |lines| lines.insert(9, lines[8].clone()), Found(Reordered, Some(8)));
    check("swapped", 0, |lines| lines.swap(8, 9), Found(Missing, Some(7)));
    check("tail deleted", 0, |lines| drop(lines.drain(14..=16)), Found(Truncated, Some(13)));
    check("newest checkpoint deleted", 0, |lines| drop(lines.pop()), Found(Uncovered, Some(9)));
    check("checkpoints deleted", 0, |lines| lines.truncate(17), Found(Uncovered, Some(0)));
    check("checkpoints swapped", 0, |lines| lines.swap(17, 18), Found(CheckpointMismatch, Some(4)));
    check("records after the checkpoints", 0, |lines| lines.push(lines[16].clone()), Found(Edited, None));
    check("only a header", 0, |lines| lines.truncate(1), Found(Empty, None));
    check("nothing", 0, Vec::clear, Unreadable);
    let log = TestLog::new();
    let path = log.file("cut", export(&log, 0, None).trim_end());
    let cut = segment::verify_file(&path, &verifier_key()).unwrap_err();
    assert!(matches!(cut, VerifyError::Finding(finding) if finding.kind == Edited), "a line cut at the end is seen");
}

#[test]
fn a_segment_is_read_from_a_pipe_as_from_a_file() {
    let log = TestLog::new();
    let key = log.file("key", &verifier_key().to_string());
    let good = export(&log, 0, None);
    let verify = |text: &str| run_with(vec!["--segment".into(), "-".into(), "--key".into(), key.clone().into()], text);
    let (code, stdout) = verify(&good);
    assert!(code == 0 && stdout.contains("records       16 (from 0 up to size 16)"), "{stdout}");
    assert_eq!(verify(&good.replacen("file.read", "file.list", 1)).0, HashMismatch.exit_code());
    assert_eq!(verify("").0, 3);
    // The same through a named pipe, as the shell's <(...) gives it.
    let pipe = log.directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, good).unwrap()
    });
    assert_eq!(segment::verify_file(&pipe, &verifier_key()).unwrap().size, 16);
    writer.join().unwrap();
}

/// Where there is no database file to look into, an exported segment is what the held checkpoints are compared with.
#[test]
fn a_segment_is_compared_with_held_checkpoints() {
    let log = TestLog::new();
    let notes = [5, 9, 16].map(|size| log.note(size));
    let check = |name: &str, text: &str, held: &[String], expected: Expected| {
        let path = log.file("segment", text);
        match (segment::verify(&path, &verifier_key(), held), expected) {
            (Ok(_), Verified) => {}
            (Err(VerifyError::Finding(finding)), Found(kind, seq)) => {
                assert_eq!((finding.kind, finding.seq), (kind, seq))
            }
            (outcome, expected) => panic!("{name}: {outcome:?} instead of {expected:?}"),
        }
    };
    let whole = export(&log, 0, None);
    check("true", &whole, &notes, Verified);
    let path = log.file("late", &export(&log, 7, None));
    let late = segment::verify(&path, &verifier_key(), &notes).unwrap();
    assert_eq!(late.held, 2, "what lies before the segment is not judged, and not counted");
    check("cut tail", &export(&log, 0, Some(9)), &notes, Found(Truncated, Some(9)));
    check("cut tail, older held", &export(&log, 0, Some(9)), &notes[..2], Verified);
    log.rewrite(Some(&signing_key(1)));
    check("re-signed with the stolen key", &export(&log, 0, None), &notes, Found(Fork, Some(8)));
    check("re-signed, held before it", &export(&log, 0, None), &notes[..1], Verified);
}
