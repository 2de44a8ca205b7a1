//! Where only `bwrap` may make namespaces: it makes them and keeps its capabilities in them, and this program puts up every
//! other wall there, its own mounts included. So both back ends have the same walls, and what bwrap's namespaces do not
//! permit fails in its stage, by name.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt,
};

use agentos_protocol::sandbox::{INNER_ID, Network, PACKET_BYTES_MAX, SandboxOrder};

use crate::{
    arguments::Inside,
    channel::{CHANNEL, ORDER, PLAN, PROGRAM, STDERR},
    landlock::Abi,
    seccomp,
    sys::{self, files},
};

use super::{BWRAP_INSIDE, Child, User, fail};

/// Where distributions put it. The environment is not asked.
const PLACES: [&str; 3] = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"];

pub fn path() -> Option<&'static str> {
    PLACES.into_iter().find(|path| std::fs::metadata(path).is_ok_and(|found| found.is_file()))
}

/// Becomes bwrap, which comes back as [`run_inside`].
pub fn execute(child: &mut Child<'_>) -> Result<(), String> {
    let bwrap = path().ok_or_else(|| format!("no bwrap at {}", PLACES.join(" or ")))?;
    let program = child.program.to_string_lossy().into_owned();
    let id = INNER_ID.to_string();
    let mut words = vec![
        bwrap,
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
        "--uid",
        &id,
        "--gid",
        &id,
        "--cap-add",
        "ALL",
        "--die-with-parent",
        "--as-pid-1",
        "--dev-bind",
        "/",
        "/",
    ];
    if child.order.network != Network::Host {
        words.push("--unshare-net");
    }
    words.extend(["--", &program, "--inside", child.profile.as_str()]);
    let words = words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let words = words.map_err(|error| format!("bwrap's arguments: {error}"))?;
    for number in [CHANNEL, PLAN] {
        files::set_close_on_exec(number, false).map_err(|error| format!("descriptor {number}: {error}"))?;
    }
    Err(format!("{bwrap}: {}", sys::execute(&words, &[])))
}

/// As the first process of bwrap's namespaces.
pub fn run_inside(inside: Inside) -> ! {
    let (order, program) = match prepare() {
        Ok(prepared) => prepared,
        Err(message) => fail("bwrap", message),
    };
    let filter = seccomp::compile(inside.profile);
    super::run(
        BWRAP_INSIDE,
        &mut Child {
            order: &order,
            profile: inside.profile,
            filter: &filter,
            landlock: Abi::probe(),
            user: User::Own,
            trees: Vec::new(),
            volunteers_for_oom: false,
            devices: None,
            has_all_processors: false,
            has_init: false,
            program: &program,
        },
    )
}

/// The descriptors as the stages expect them, and what the launcher has left here.
fn prepare() -> Result<(SandboxOrder, CString), String> {
    let failed = |error: std::io::Error| format!("the order could not be taken over: {error}");
    let order = files::read_whole(files::kept(ORDER), PACKET_BYTES_MAX).map_err(failed)?;
    let order = serde_json::from_slice(&order).map_err(|error| failed(error.into()))?;
    files::copy_to(STDERR, libc::STDERR_FILENO, false).map_err(failed)?;
    files::close_between(PROGRAM, i32::MAX).map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let program = CString::new(OsStr::as_bytes(program.as_os_str())).map_err(|error| failed(error.into()))?;
    Ok((order, program))
}
