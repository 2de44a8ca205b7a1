//! The last program: what closes execution and processes once the program of a `strict` or `proxy` sandbox begins.
//!
//! A filter that refuses `execve` cannot be installed before the program is there, because the program comes by `execve`. So
//! the second filter lets exactly one call through: the one whose three pointers lie where nobody can guess. The init puts
//! them there right before, at addresses from the kernel's random numbers that the launcher has drawn, and the memory that
//! holds them is gone with the program that made the call. Not even the program itself learns them.

use std::{io, iter, mem};

use agentos_protocol::sandbox::Profile;
use libc::sock_filter;

use super::{
    Architecture,
    bpf::{Decision, NUMBER, high, low},
    table::{Call, GROUPS},
};
use crate::left_out;

/// Random bits of each address: what every machine of the architecture has below its end of user memory.
#[cfg(target_arch = "x86_64")]
const ADDRESS_BITS: u32 = 46;
#[cfg(not(target_arch = "x86_64"))]
const ADDRESS_BITS: u32 = 38;
/// A bit that each address has, so that none lies where the kernel maps nothing (`vm.mmap_min_addr`).
const LOWEST: u64 = 1 << 20;
const CLONE_THREAD: u32 = libc::CLONE_THREAD as u32;

/// The filter, and the three addresses that its one call must have: path, arguments, variables.
#[derive(Debug, Default)]
pub struct Closing {
    pub filter: Vec<sock_filter>,
    pub places: [u64; 3],
}

/// `None` for profiles that allow further programs.
pub fn of(profile: Profile) -> io::Result<Option<Closing>> {
    if !is_closed(profile) || left_out::is("seccomp") {
        return Ok(None);
    }
    let places = [draw()?, draw()?, draw()?];
    Ok(Some(Closing { filter: filter(Architecture::NATIVE, places), places }))
}

/// Aligned for pointers.
fn draw() -> io::Result<u64> {
    let mut random = [0_u8; mem::size_of::<u64>()];
    // SAFETY: the pointer and the length are those of one live, writable array.
    if unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) } != random.len() as isize {
        return Err(io::Error::last_os_error());
    }
    let address = u64::from_ne_bytes(random) & ((1 << ADDRESS_BITS) - 1) & !7;
    Ok(address | LOWEST)
}

/// As the kernel takes it.
pub fn bytes_of(instruction: &sock_filter) -> [u8; 8] {
    let [code, value] = [instruction.code.to_ne_bytes(), [instruction.jt, instruction.jf]];
    let operand = instruction.k.to_ne_bytes();
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(code.into_iter().chain(value).chain(operand)).for_each(|(to, from)| *to = from);
    bytes
}

pub fn is_closed(profile: Profile) -> bool {
    matches!(profile, Profile::Strict | Profile::Proxy)
}

/// On top of the profile's own filter: it only takes away.
pub fn filter(architecture: Architecture, pointers: [u64; 3]) -> Vec<sock_filter> {
    let mut this_one = Decision::ALLOW;
    for (argument, pointer) in (0..).zip(pointers) {
        let [upper, lower] = [(pointer >> 32) as u32, pointer as u32];
        this_one = Decision::only(high(argument), upper, this_one, Decision::REFUSE);
        this_one = Decision::only(low(argument), lower, this_one, Decision::REFUSE);
    }
    let threads = Decision::switch(low(0), CLONE_THREAD, vec![(0, Decision::REFUSE), (CLONE_THREAD, Decision::ALLOW)]);
    let mut numbers: Vec<(u32, Decision)> = [
        ("execve", this_one),
        ("execveat", Decision::REFUSE),
        ("fork", Decision::REFUSE),
        ("vfork", Decision::REFUSE),
        ("clone", threads),
    ]
    .into_iter()
    .filter_map(|(name, decision)| Some((number_of(architecture, name)?, decision)))
    .collect();
    numbers.sort_by_key(|(number, _)| *number);
    let after = |(number, decision)| [(number, decision), (number + 1, Decision::ALLOW)];
    let starts = iter::once((0, Decision::ALLOW)).chain(numbers.into_iter().flat_map(after)).collect();
    Decision::switch(NUMBER, u32::MAX, starts).compile()
}

/// Where only mounted programs may run: a memory file must be made as one that can never be executed, which the kernel seals.
/// A kernel that does not know the flag makes none at all. The setting `vm.memfd_noexec` says the same, but only root can set
/// it.
pub fn memory_files(architecture: Architecture) -> Vec<sock_filter> {
    const NOEXEC_SEAL: u32 = 0x8;
    let sealed = Decision::switch(low(1), NOEXEC_SEAL, vec![(0, Decision::REFUSE), (1, Decision::ALLOW)]);
    match number_of(architecture, "memfd_create") {
        Some(number) => Decision::only(NUMBER, number, sealed, Decision::ALLOW).compile(),
        None => Decision::REFUSE.compile(),
    }
}

fn number_of(architecture: Architecture, name: &str) -> Option<u32> {
    let calls = GROUPS.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.calls);
    calls.into_iter().find(|call: &&Call| call.name == name).and_then(|call| architecture.number_of(call))
}
