//! The last program: what closes execution and processes once the program of a `strict` or `proxy` sandbox begins.
//!
//! A filter that refuses `execve` cannot be installed before the program is there, because the program comes by `execve`. So
//! the second filter lets exactly one call through: the one whose three pointers lie where nobody can guess. They are put
//! there right before, at addresses from the kernel's random numbers, and the memory that holds them is gone with the
//! program that made the call. Not even the program itself learns them.

use std::{ffi::CString, io, iter, mem, ptr};

use agentos_protocol::sandbox::Profile;
use libc::sock_filter;

use super::{
    Architecture,
    bpf::{Decision, NUMBER, high, low},
    install,
    table::{Call, GROUPS},
};
use crate::left_out;

/// Random bits of each address: what every machine of the architecture has below its end of user memory.
#[cfg(target_arch = "x86_64")]
const ADDRESS_BITS: u32 = 46;
#[cfg(not(target_arch = "x86_64"))]
const ADDRESS_BITS: u32 = 38;
/// An address that is taken is drawn anew. Most of the address space is free, so that the second draw is rare already.
const DRAWS_MAX: usize = 16;
const CLONE_THREAD: u32 = libc::CLONE_THREAD as u32;

/// Replaces this program by the sandbox's; returns only the reason why it could not. For profiles that allow further
/// programs this is a plain `execve`.
pub fn execute(profile: Profile, command: &[CString], environment: &[CString]) -> io::Error {
    if !is_closed(profile) || left_out::is("seccomp") {
        return crate::sys::execute(command, environment);
    }
    match place(command, environment) {
        Err(error) => error,
        Ok(pointers) => match install(&filter(Architecture::NATIVE, pointers)) {
            Err(error) => error,
            Ok(()) => {
                let [path, arguments, variables] = pointers;
                // SAFETY: the pointers are those that `place` has made: a NUL-terminated path and two arrays of
                // NUL-terminated strings that end with a null pointer, all of which are never freed.
                unsafe { libc::syscall(libc::SYS_execve, path, arguments, variables) };
                io::Error::last_os_error()
            }
        },
    }
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

/// Path, arguments and variables of the call, each at an address of its own.
fn place(command: &[CString], environment: &[CString]) -> io::Result<[u64; 3]> {
    let path = command.first().ok_or(io::ErrorKind::InvalidInput)?.as_bytes_with_nul();
    Ok([scatter(path)?, scatter(&addresses(command))?, scatter(&addresses(environment))?])
}

/// The strings stay where they are; they live as long as this program.
fn addresses(words: &[CString]) -> Vec<u8> {
    let pointers = words.iter().map(|word| word.as_ptr() as usize);
    pointers.chain([0]).flat_map(usize::to_ne_bytes).collect()
}

/// Copies the bytes to a random place of memory, for ever.
fn scatter(bytes: &[u8]) -> io::Result<u64> {
    // The largest page of these architectures.
    const PAGE: u64 = 64 * 1024;
    for _ in 0..DRAWS_MAX {
        let mut random = [0_u8; mem::size_of::<u64>()];
        // SAFETY: the pointer and the length are those of one live, writable array.
        if unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) } != random.len() as isize {
            return Err(io::Error::last_os_error());
        }
        // Pointers to pointers are aligned to eight bytes.
        let address = u64::from_ne_bytes(random) & ((1 << ADDRESS_BITS) - 1) & !7;
        let (start, offset) = (address & !(PAGE - 1), (address & (PAGE - 1)) as usize);
        let length = offset + bytes.len();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: NOREPLACE leaves every mapping of this program as it is.
        let mapped = unsafe { libc::mmap(start as *mut libc::c_void, length, protection, flags, -1, 0) };
        if mapped as u64 != start {
            continue;
        }
        // SAFETY: the mapping is new, ours, and long enough for the offset and the bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), (address as usize as *mut u8).cast(), bytes.len()) };
        return Ok(address);
    }
    Err(io::Error::new(io::ErrorKind::OutOfMemory, "no free place in memory for the call that starts the program"))
}
