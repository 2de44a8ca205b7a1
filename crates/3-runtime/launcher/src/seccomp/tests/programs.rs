//! Real programs live under the filter, and what it refuses is refused by a real kernel.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, Output},
};

use super::*;

/// Runs under the filter and nothing else: the other walls are tried from inside of whole sandboxes.
fn under(profile: Profile, program: &str, arguments: &[&str]) -> io::Result<Output> {
    let filter = compile(profile);
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", "/tmp").current_dir("/tmp");
    let confine = move || {
        crate::sys::set_no_new_privileges()?;
        install(&filter)
    };
    // SAFETY: between fork and exec only two system calls are made, on memory that was prepared before.
    unsafe { command.pre_exec(confine) }.output()
}

fn check(program: &str, arguments: &[&str], expected: &str) {
    for profile in [Profile::Agent, Profile::Dev] {
        match under(profile, program, arguments) {
            Ok(output) => {
                let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
                assert!(output.status.success(), "{program} {}: {out}{err}", output.status);
                assert!(out.contains(expected), "{program} said '{out}', '{err}'");
            }
            // Not every machine has all of them; what is there is tried.
            Err(error) if error.kind() == io::ErrorKind::NotFound => eprintln!("skipped: {program} is not installed"),
            Err(error) => panic!("{program}: {error}"),
        }
    }
}

#[test]
fn a_shell_and_its_pipes() {
    check(
        "bash",
        &["-c", "seq 1000 | sort -rn | head -3 | tr '\\n' ' '; (sleep 0 & wait); mktemp -u; time true"],
        "1000 999 998",
    );
    check("bash", &["-c", "mkfifo p.$$ && (echo through > p.$$ & cat p.$$); rm p.$$"], "through");
}

#[test]
fn git_makes_a_repository() {
    let script = "d=$(mktemp -d) && cd $d && git init -q . && echo a > a && git add a && \
                  git -c user.name=n -c user.email=e@x commit -qm first && git log --oneline | wc -l && rm -rf $d";
    check("bash", &["-c", script], "1");
}

#[test]
fn curl_fetches_from_a_server_of_python() {
    let script = "d=$(mktemp -d) && cd $d && echo answer > a && mkfifo ready && \
        (python3 -c 'import http.server as h; s=h.HTTPServer((\"127.0.0.1\",0),h.SimpleHTTPRequestHandler); \
         open(\"ready\",\"w\").write(str(s.server_port)); s.handle_request()' 2>/dev/null & \
         curl -s http://127.0.0.1:$(cat ready)/a; wait); rm -rf $d";
    check("bash", &["-c", script], "answer");
}

#[test]
fn python_with_threads_processes_and_a_pool() {
    let script = "import threading, subprocess, tempfile, socket, multiprocessing, asyncio\n\
                  t=[threading.Thread(target=lambda: sum(range(1000))) for _ in range(8)]\n\
                  [x.start() for x in t]; [x.join() for x in t]\n\
                  socket.socketpair(); tempfile.TemporaryFile().write(b'x')\n\
                  print(multiprocessing.get_context('fork').Pool(2).map(abs, [-1, -2]))\n\
                  print(subprocess.check_output(['echo', 'child']), asyncio.run(asyncio.sleep(0, 'loop')))";
    check("python3", &["-c", script], "[1, 2]\nb'child\\n' loop");
}

#[test]
fn node_with_workers() {
    let script = "const {Worker} = require('worker_threads'); const zlib = require('zlib'); \
                  new Worker('require(\"worker_threads\").parentPort.postMessage(6*7)', {eval: true})\
                  .on('message', m => zlib.gzip('x', () => require('child_process').exec('echo child', (e, o) => console.log(m, o))))";
    check("node", &["-e", script], "42 child");
}

#[test]
fn the_jvm_starts() {
    check("java", &["-Xmx64m", "-version"], "");
}

#[test]
fn refusals_are_the_kernels() {
    let output = under(Profile::Agent, "unshare", &["--user", "true"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"), "{output:?}");
    let script = "import socket\nfor family in (16, 17, 38, 40):\n  try: socket.socket(family, 2); print('open', family)\n  \
                  except OSError as error: print(error.errno)";
    match under(Profile::Agent, "python3", &["-c", script]) {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "97\n97\n97\n97\n"),
        Err(error) => eprintln!("skipped: python3: {error}"),
    }
}

/// The gate of 32-bit programs, reached from a 64-bit one.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_of_another_architecture_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let script = "import ctypes, mmap\nm=mmap.mmap(-1,4096,prot=7)\nm.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n\
                  f=ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint(f())";
    match under(Profile::Agent, "python3", &["-c", script]) {
        Ok(output) => assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}"),
        Err(error) => eprintln!("skipped: python3: {error}"),
    }
}
