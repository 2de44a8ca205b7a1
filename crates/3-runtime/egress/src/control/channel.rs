//! The server's end of the socket to the proxy: one packet a message, descriptors go out and none come in.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use agentos_protocol::sandbox::{DESCRIPTORS_MAX, PACKET_BYTES_MAX};
use rustix::{
    io::ioctl_fionbio,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
    },
};
use tokio::io::unix::AsyncFd;

const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Ours, and the one that the proxy gets as its descriptor 3.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for end in [&ours, &theirs] {
            // A packet of the largest size has to fit, and some behind it.
            sockopt::set_socket_send_buffer_size(end, 2 * PACKET_BYTES_MAX)?;
        }
        ioctl_fionbio(&ours, true)?;
        Ok((Self { socket: register(ours)? }, theirs))
    }

    /// `None` when the proxy has closed its end.
    pub async fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut guard = self.socket.readable().await?;
            if let Ok(received) = guard.try_io(|socket| receive_one(socket.get_ref())) {
                return received;
            }
        }
    }

    pub async fn send(&self, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(io::Error::other(format!("a message of {} bytes is too large", bytes.len())));
        }
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        loop {
            let mut guard = self.socket.writable().await?;
            if let Ok(sent) = guard.try_io(|socket| send_one(socket.get_ref(), bytes, &borrowed)) {
                return sent;
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe to call, for types that may close or change their descriptor; OwnedFd cannot"
)]
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(socket)
}

fn send_one(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("{} descriptors are too many for one message", descriptors.len())));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

fn receive_one(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    // Without room for them the kernel drops descriptors that a proxy might send, and says so.
    let mut control = RecvAncillaryBuffer::default();
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a packet is too large or brought descriptors"));
    }
    bytes.truncate(received.bytes);
    Ok((!bytes.is_empty()).then_some(bytes))
}
