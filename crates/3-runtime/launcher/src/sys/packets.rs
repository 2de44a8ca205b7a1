//! Unix sockets of whole messages, with descriptors, and waiting for many of them.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::check;

/// The kernel's own limit for one message.
const DESCRIPTORS_MAX: usize = 253;
const CONTROL_WORDS: usize = 160;

/// Room for the control message, aligned as its header must be. Bytes: 16 for the header, 4 for each descriptor.
#[repr(C, align(8))]
struct Control([u64; CONTROL_WORDS]);

pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the pointer is to two live integers.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made both descriptors for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

pub fn is_seqpacket(descriptor: RawFd) -> io::Result<bool> {
    Ok(super::socket_option(descriptor, libc::SO_DOMAIN)? == libc::AF_UNIX
        && super::socket_option(descriptor, libc::SO_TYPE)? == libc::SOCK_SEQPACKET)
}

/// One message. `WouldBlock` if the other side's queue is full and `wait` is false.
pub fn send(socket: RawFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>], wait: bool) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([0; CONTROL_WORDS]);
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is integers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let payload = mem::size_of_val(descriptors) as libc::c_uint;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
        // SAFETY: the control buffer is large and aligned enough for DESCRIPTORS_MAX descriptors, so the header and its data
        // lie within it.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (index, descriptor) in descriptors.iter().enumerate() {
                data.add(index).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        // SAFETY: the message and everything that it points to live through the call.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, flags) };
        match io::Error::last_os_error() {
            _ if sent >= 0 => return Ok(()),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// One message as it was sent.
#[derive(Debug)]
pub struct Packet {
    /// 0 if the other side has closed.
    pub length: usize,
    pub descriptors: Vec<OwnedFd>,
    /// The process that sent it, as this process knows it; only where that was asked for.
    pub sender: Option<i32>,
    /// It did not fit into the buffer, or its descriptors did not fit.
    pub is_cut: bool,
}

pub fn receive(socket: RawFd, buffer: &mut [u8], wait: bool) -> io::Result<Packet> {
    let mut control = Control([0; CONTROL_WORDS]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is integers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let length = loop {
        // SAFETY: the message and everything that it points to live through the call.
        let count = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
        match usize::try_from(count) {
            Ok(count) => break count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    let (descriptors, sender) = attachments_of(&message);
    let is_cut = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Packet { length, descriptors, sender, is_cut })
}

fn attachments_of(message: &libc::msghdr) -> (Vec<OwnedFd>, Option<i32>) {
    let (mut descriptors, mut sender) = (Vec::new(), None);
    // SAFETY: the kernel has filled the control buffer, and the macros stay within msg_controllen.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a header that is not null lies within the control buffer.
        let (level, kind, length) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = length.saturating_sub(empty) / mem::size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: the data of this header holds `count` descriptors that the kernel has just made for us.
                descriptors.push(unsafe {
                    OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().add(index).read_unaligned())
                });
            }
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            // SAFETY: the data of this header is what the kernel says of the sender.
            sender = Some(unsafe { libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned() }.pid);
        }
        // SAFETY: both pointers are to the message that the kernel has filled.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    (descriptors, sender)
}

/// From now on each message says which process sent it. No sender can say it wrong.
pub fn tell_senders(socket: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let length = mem::size_of_val(&yes) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
    // SAFETY: the pointer is to a live local, and the length is its size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const yes).cast(), length) }).map(drop)
}

/// True if the other end of this socket is closed.
pub fn is_hung_up(socket: RawFd) -> bool {
    let mut entry = libc::pollfd { fd: socket, events: 0, revents: 0 };
    // SAFETY: the pointer is to one live entry.
    let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
    ready > 0 && entry.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

/// Descriptors that somebody waits for, each with a number of his own.
#[derive(Debug)]
pub struct Watch {
    descriptor: OwnedFd,
}

const EVENTS_AT_ONCE: usize = 64;

impl Watch {
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes an integer.
        let descriptor = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    pub fn add(&self, descriptor: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, descriptor, libc::EPOLLIN, token)
    }

    /// Also, or no longer, when it can be written to.
    pub fn change(&self, descriptor: RawFd, token: u64, read: bool, write: bool) -> io::Result<()> {
        let events = if read { libc::EPOLLIN } else { 0 } | if write { libc::EPOLLOUT } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, descriptor, events, token)
    }

    pub fn remove(&self, descriptor: RawFd) {
        // A descriptor that is not watched is what was wanted.
        let _ = self.control(libc::EPOLL_CTL_DEL, descriptor, 0, 0);
    }

    fn control(&self, operation: libc::c_int, descriptor: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: the pointer is to a live local.
        check(unsafe { libc::epoll_ctl(self.descriptor.as_raw_fd(), operation, descriptor, &raw mut event) }).map(drop)
    }

    /// Waits until at least one is ready, and gives their tokens.
    pub fn wait(&self, ready: &mut Vec<u64>) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_AT_ONCE];
        ready.clear();
        let room = EVENTS_AT_ONCE as libc::c_int;
        // SAFETY: the pointer is to as many live entries as are said.
        let count = unsafe { libc::epoll_wait(self.descriptor.as_raw_fd(), events.as_mut_ptr(), room, -1) };
        match usize::try_from(count) {
            Ok(count) => ready.extend(events.iter().take(count).map(|event| event.u64)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
        Ok(())
    }
}
