//! Whatever cannot be launched says so in one frame, and the program has not run.

use std::{fs, io::Write, net::Shutdown, os::unix::fs::PermissionsExt, process::Stdio};

use serde_json::{Value, json};

use crate::harness::{command, order, own_pid, spawn};

/// Sends a changed order and expects the refusal.
fn check(change: impl FnOnce(&mut Value), status: i32, stage: &str, part: &str) {
    let mut launched = spawn(command(&own_pid()));
    let mut order = order(&["/bin/echo", "the program ran"]);
    change(&mut order);
    launched.send(&order);
    expect(launched.refusal(), status, stage, part);
}

/// Sends raw bytes, closes the sending side, and expects the refusal.
fn check_bytes(bytes: &[u8], part: &str) {
    let mut launched = spawn(command(&own_pid()));
    launched.socket.write_all(bytes).unwrap();
    launched.socket.shutdown(Shutdown::Write).unwrap();
    expect(launched.refusal(), 125, "order", part);
}

fn expect(refusal: (String, String, Option<i32>), status: i32, stage: &str, part: &str) {
    let (seen_stage, message, code) = refusal;
    assert_eq!((seen_stage.as_str(), code), (stage, Some(status)), "{message}");
    assert!(message.contains(part), "'{message}' lacks '{part}'");
}

#[test]
fn programs_that_cannot_start() {
    check(|o| o["command"][0] = json!("/does/not/exist"), 126, "execute", "/does/not/exist: No such file");
    check(|o| o["command"][0] = json!("/etc/passwd"), 126, "execute", "Permission denied");
    check(|o| o["command"][0] = json!("/"), 126, "execute", "Permission denied");
    check(|o| o["directory"] = json!("/does/not/exist"), 126, "directory", "/does/not/exist");
    let plain = std::env::temp_dir().join(format!("agentos-launcher-{}", own_pid()));
    fs::write(&plain, "not a program").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o700)).unwrap();
    check(|o| o["command"][0] = json!(plain), 126, "execute", "interpreter line");
    fs::remove_file(&plain).unwrap();
}

#[test]
fn orders_that_break_a_rule() {
    check(|o| o["command"][0] = json!("echo"), 125, "order", "not an absolute path");
    check(|o| o["directory"] = json!("tmp"), 125, "order", "not an absolute path");
    check(|o| o["command"] = json!([]), 125, "order", "command is empty");
    check(|o| o["command"] = json!(vec!["/bin/echo"; 257]), 125, "order", "257 arguments");
    check(|o| o["version"] = json!(2), 125, "order", "version 2");
    check(|o| o["surprise"] = json!(1), 125, "order", "surprise");
    check(|o| o["environment"]["LD_PRELOAD"] = json!("/x.so"), 125, "order", "LD_PRELOAD");
    check(|o| o["environment"]["A=B"] = json!(""), 125, "order", "not a variable name");
    check(|o| o["command"][1] = json!("a\0b"), 125, "order", "NUL");
}

#[test]
fn bytes_that_are_no_order() {
    check_bytes(b"", "closed after 0 of 4 bytes");
    check_bytes(&[0, 0], "closed after 2 of 4 bytes");
    check_bytes(b"GET / HTTP/1.1\r\n\r\n", "above the limit of 65536 bytes");
    check_bytes(&65_537_u32.to_be_bytes(), "above the limit of 65536 bytes");
    check_bytes(b"\0\0\0\x10{\"version\":", "closed after 11 of 16 bytes");
    check_bytes(b"\0\0\0\x04\xff\xfe\xfd\xfc", "not valid");
    check_bytes(b"\0\0\0\x02{}", "missing field");
}

#[test]
fn a_parent_that_is_not_the_one_that_asked() {
    expect(spawn(command("1")).refusal(), 125, "parent", "not 1");
    expect(spawn(command("nobody")).refusal(), 125, "usage", "--parent PID");
}

#[test]
fn without_a_socket_the_reason_goes_to_stderr() {
    let mut lonely = command(&own_pid());
    let output = lonely.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("channel: descriptor 0 is not a socket"), "{text}");
}

#[test]
fn a_supervisor_that_closed_its_side_is_survived() {
    let launched = spawn(command(&own_pid()));
    launched.socket.shutdown(Shutdown::Both).unwrap();
    let (status, text) = launched.finish();
    assert_eq!(status, Some(125), "an exit status, not SIGPIPE");
    assert!(text.contains("closed after 0 of 4 bytes"), "{text}");
}

#[test]
fn a_limit_above_the_machines_own_is_refused_not_lowered() {
    // Above the kernel's own ceiling for open files, which binds root as well.
    check(|o| o["limits"]["open_files"] = json!(1_u64 << 40), 126, "limits", "open files");
}
