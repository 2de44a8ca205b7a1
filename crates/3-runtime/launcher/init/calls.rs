//! System calls, by their numbers: this program has no C library to name them.

use core::{arch::asm, mem, ptr};

/// Number of the system's error.
pub type Error = i32;

pub const NO_CHILD: Error = 10;
pub const INTERRUPTED: Error = 4;

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const CLOSE: usize = 3;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const SENDTO: usize = 44;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80;
    pub const SETSID: usize = 112;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
    pub const PPOLL: usize = 271;
    pub const SECCOMP: usize = 317;
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub const FCNTL: usize = 25;
    pub const CHDIR: usize = 49;
    pub const CLOSE: usize = 57;
    pub const LSEEK: usize = 62;
    pub const PPOLL: usize = 73;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETSID: usize = 157;
    pub const PRCTL: usize = 167;
    pub const SENDTO: usize = 206;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MMAP: usize = 222;
    pub const WAIT4: usize = 260;
    pub const SECCOMP: usize = 277;
}

/// # Safety
/// What the kernel is given pointers to must be as the call wants it.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Error> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: isize;
    // SAFETY: the registers are those of the kernel's convention, and the two that it overwrites are named.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, in("r8") fifth, in("r9") sixth, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if result < 0 { Err(-result as Error) } else { Ok(result as usize) }
}

/// # Safety
/// What the kernel is given pointers to must be as the call wants it.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Error> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: isize;
    // SAFETY: the registers are those of the kernel's convention.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") first as isize => result, in("x1") second, in("x2") third,
            in("x3") fourth, in("x4") fifth, in("x5") sixth, options(nostack));
    }
    if result < 0 { Err(-result as Error) } else { Ok(result as usize) }
}

pub fn end(status: i32) -> ! {
    loop {
        // SAFETY: takes an integer, and does not return.
        let _ = unsafe { call(numbers::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

#[derive(Clone, Copy)]
pub enum Setting {
    /// Whether others with the same user may look into this process and take its descriptors.
    Inspection(bool),
    /// The signal at the end of the parent.
    ParentDeath,
    /// Orphans below become children of this process.
    AdoptOrphans,
}

pub fn set(setting: Setting) -> Result<(), Error> {
    const KILL_SIGNAL: usize = 9;
    let (option, value) = match setting {
        Setting::ParentDeath => (1, KILL_SIGNAL),
        Setting::Inspection(is_open) => (4, usize::from(is_open)),
        Setting::AdoptOrphans => (36, 1),
    };
    // SAFETY: these options take integers.
    unsafe { call(numbers::PRCTL, [option, value, 0, 0, 0, 0]) }.map(drop)
}

/// True if the other side of the socket is closed, or there is none.
pub fn is_hung_up(socket: i32) -> bool {
    #[repr(C)]
    struct Entry {
        descriptor: i32,
        events: i16,
        returned: i16,
    }
    const ERROR_HANGUP_INVALID: i16 = 0x8 | 0x10 | 0x20;
    let mut entry = Entry { descriptor: socket, events: 0, returned: 0 };
    let at_once = [0_u64; 2];
    // SAFETY: one live entry, a live time of two words, and no mask of signals.
    let ready = unsafe { call(numbers::PPOLL, [&raw mut entry as usize, 1, at_once.as_ptr() as usize, 0, 0, 0]) };
    ready.is_ok_and(|count| count > 0) && entry.returned & ERROR_HANGUP_INVALID != 0
}

pub fn set_close_on_exec(descriptor: i32) -> Result<(), Error> {
    const SET_FLAGS: usize = 2;
    const CLOSE_ON_EXEC: usize = 1;
    // SAFETY: takes integers.
    unsafe { call(numbers::FCNTL, [descriptor as usize, SET_FLAGS, CLOSE_ON_EXEC, 0, 0, 0]) }.map(drop)
}

pub fn close(descriptor: i32) {
    // SAFETY: takes an integer; nothing of this program owns a descriptor.
    let _ = unsafe { call(numbers::CLOSE, [descriptor as usize, 0, 0, 0, 0, 0]) };
}

/// One packet. Waits where the other side's queue is full.
pub fn send(socket: i32, bytes: &[u8]) -> Result<(), Error> {
    const NO_SIGNAL: usize = 0x4000;
    loop {
        // SAFETY: as many live bytes as it says, and no address.
        let sent =
            unsafe { call(numbers::SENDTO, [socket as usize, bytes.as_ptr() as usize, bytes.len(), NO_SIGNAL, 0, 0]) };
        match sent {
            Err(INTERRUPTED) => {}
            other => return other.map(drop),
        }
    }
}

/// Of signals: number 1 is the lowest bit.
pub const fn mask(signals: &[i32]) -> u64 {
    let (mut mask, mut index) = (0, 0);
    while index < signals.len() {
        mask |= 1 << (signals[index] - 1);
        index += 1;
    }
    mask
}

/// All at once, in place of those that were blocked.
pub fn block_signals(mask: u64) -> Result<(), Error> {
    const REPLACE: usize = 2;
    // SAFETY: a live mask of eight bytes; the old one is not wanted.
    unsafe { call(numbers::RT_SIGPROCMASK, [REPLACE, &raw const mask as usize, 0, mem::size_of::<u64>(), 0, 0]) }
        .map(drop)
}

/// The next of these signals, all of which are blocked.
pub fn wait_for_signal(mask: u64) -> Result<i32, Error> {
    // SAFETY: a live mask of eight bytes; neither details nor an end of waiting are wanted.
    unsafe { call(numbers::RT_SIGTIMEDWAIT, [&raw const mask as usize, 0, 0, mem::size_of::<u64>(), 0, 0]) }
        .map(|signal| signal as i32)
}

pub fn kill(process: i32, signal: i32) -> Result<(), Error> {
    // SAFETY: takes integers.
    unsafe { call(numbers::KILL, [process as usize, signal as usize, 0, 0, 0, 0]) }.map(drop)
}

/// A copy of this process, 0 in the copy. Returns in the parent when the copy has executed a program or has ended.
pub fn fork_and_wait_for_exec() -> Result<i32, Error> {
    const WAIT_FOR_EXEC: usize = 0x4000;
    const CHILD_SIGNAL: usize = 17;
    // SAFETY: without a shared address space the child gets a copy of it and of the stack; this process has one thread.
    unsafe { call(numbers::CLONE, [WAIT_FOR_EXEC | CHILD_SIGNAL, 0, 0, 0, 0, 0]) }.map(|process| process as i32)
}

pub fn start_session() -> Result<(), Error> {
    // SAFETY: takes nothing.
    unsafe { call(numbers::SETSID, [0; 6]) }.map(drop)
}

/// The word ends with NUL.
pub fn change_directory(word: &[u8]) -> Result<(), Error> {
    // SAFETY: a live string, which ends with NUL.
    unsafe { call(numbers::CHDIR, [word.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// From the call of `execve` on for everything that this process becomes.
pub fn install_filter(instructions: &[u8]) -> Result<(), Error> {
    #[repr(C)]
    struct Filter {
        length: u16,
        instructions: *const u8,
    }
    const INVALID: Error = 22;
    const SET_FILTER: usize = 1;
    let length = u16::try_from(instructions.len() / crate::plan::INSTRUCTION_BYTES).map_err(|_| INVALID)?;
    let filter = Filter { length, instructions: instructions.as_ptr() };
    // SAFETY: the structure and its instructions live through the call, and are as many as it says.
    unsafe { call(numbers::SECCOMP, [SET_FILTER, 0, &raw const filter as usize, 0, 0, 0]) }.map(drop)
}

/// Returns only the reason why this program goes on.
///
/// # Safety
/// A string that ends with NUL, and two arrays of such strings that end with a null pointer.
pub unsafe fn execute(path: *const u8, arguments: *const usize, variables: *const usize) -> Error {
    // SAFETY: as the caller says.
    match unsafe { call(numbers::EXECVE, [path as usize, arguments as usize, variables as usize, 0, 0, 0]) } {
        Err(error) => error,
        Ok(_) => 0,
    }
}

/// A child that has ended, with what it and its own children have used.
pub struct Reaped {
    pub process: i32,
    pub status: i32,
    pub cpu_us: u64,
    pub memory_peak_bytes: u64,
}

/// `None`: there are children, and all of them live.
pub fn reap() -> Result<Option<Reaped>, Error> {
    const ANY: usize = usize::MAX;
    const DO_NOT_WAIT: usize = 1;
    let mut status = 0_i32;
    // Seconds and microseconds of the program's time, the same of the kernel's, the peak in KiB, and eleven others.
    let mut usage = [0_u64; 4 + 14];
    // SAFETY: both live, and as long as the kernel writes.
    let reaped = unsafe {
        call(numbers::WAIT4, [ANY, &raw mut status as usize, DO_NOT_WAIT, usage.as_mut_ptr() as usize, 0, 0])
    }?;
    let [seconds, microseconds, kernel_seconds, kernel_microseconds, peak, ..] = usage;
    Ok((reaped != 0).then_some(Reaped {
        process: reaped as i32,
        status,
        cpu_us: (seconds + kernel_seconds) * 1_000_000 + microseconds + kernel_microseconds,
        memory_peak_bytes: peak * 1024,
    }))
}

/// The whole file, in memory of this process.
pub fn map_file(descriptor: i32) -> Result<&'static [u8], Error> {
    const FROM_ITS_END: usize = 2;
    // SAFETY: takes integers.
    let length = unsafe { call(numbers::LSEEK, [descriptor as usize, 0, FROM_ITS_END, 0, 0, 0]) }?;
    let start = map(0, length, PRIVATE, descriptor)?;
    // SAFETY: a mapping of this length that nobody else has, for as long as this program runs.
    Ok(unsafe { core::slice::from_raw_parts(start, length) })
}

const PRIVATE: usize = 0x02;
const ANONYMOUS: usize = 0x20;
const FIXED_IF_FREE: usize = 0x10_0000;

/// Room for so many bytes, aligned to a page.
pub fn room(bytes: usize) -> Result<*mut u8, Error> {
    map(0, bytes, PRIVATE | ANONYMOUS, -1)
}

/// Room for so many bytes at this very address; an error where something is.
pub fn room_at(address: u64, bytes: usize) -> Result<*mut u8, Error> {
    // The largest page of these architectures.
    const PAGE: usize = 64 * 1024;
    const EXISTS: Error = 17;
    let offset = address as usize & (PAGE - 1);
    let start = address as usize - offset;
    match map(start, offset + bytes, PRIVATE | ANONYMOUS | FIXED_IF_FREE, -1)? {
        mapped if mapped as usize == start => Ok(ptr::without_provenance_mut(address as usize)),
        _ => Err(EXISTS),
    }
}

fn map(address: usize, bytes: usize, flags: usize, descriptor: i32) -> Result<*mut u8, Error> {
    const READ_AND_WRITE: usize = 3;
    // SAFETY: no flag replaces a mapping that is there.
    unsafe { call(numbers::MMAP, [address, bytes, READ_AND_WRITE, flags, descriptor as usize, 0]) }
        .map(|start| start as *mut u8)
}
