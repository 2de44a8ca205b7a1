//! The socket to the server: one packet a message, descriptors beside it. Whatever is wrong with a packet ends the proxy:
//! a server that cannot be understood is no server.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixDatagram as StdUnixDatagram},
    sync::{Mutex, PoisonError},
};

use agentos_protocol::sandbox::{DESCRIPTORS_MAX, PACKET_BYTES_MAX};
use rustix::{
    io::ioctl_fionbio,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send},
};
use tokio::{io::Interest, net::UnixDatagram};
use zeroize::{Zeroize, Zeroizing};

const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

pub(super) struct Channel {
    /// In truth a socket of packets in sequence, for which there is no type; readiness is the same.
    socket: UnixDatagram,
    /// The largest packet that there may be, allocated once; wiped as far as it was used.
    buffer: Mutex<Vec<u8>>,
}

/// One packet and what rode with it.
pub(super) struct Packet {
    /// Wiped on drop: secrets and keys of authorities come this way.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Closed on drop, so that one that nobody wants does not stay.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        let socket = UnixDatagram::from_std(StdUnixDatagram::from(socket))?;
        Ok(Self { socket, buffer: Mutex::new(vec![0; PACKET_BYTES_MAX]) })
    }

    /// `None` when the server has closed its end.
    pub async fn receive(&self) -> io::Result<Option<Packet>> {
        loop {
            self.socket.readable().await?;
            match self.socket.try_io(Interest::READABLE, || self.receive_one()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Its end is closed, and something of ours was not read any more.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                received => return received,
            }
        }
    }

    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(io::Error::other(format!("a message of {} bytes is too large", bytes.len())));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            self.socket.writable().await?;
            match self.socket.try_io(Interest::WRITABLE, || Ok(send(&self.socket, bytes, flags)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent.map(drop),
            }
        }
    }

    fn receive_one(&self) -> io::Result<Option<Packet>> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let used = buffer.get_mut(..received.bytes).unwrap_or_default();
        let bytes = Zeroizing::new(used.to_vec());
        used.zeroize();
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a packet, or what rode with it, was cut off"));
        }
        Ok((!bytes.is_empty()).then_some(Packet { bytes, descriptors }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SocketFlags, SocketType, sendmsg, socketpair,
    };

    use super::*;

    fn pair() -> (OwnedFd, Channel) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (ours, Channel::new(theirs).unwrap())
    }

    #[tokio::test]
    async fn packets_keep_their_borders_and_bring_descriptors() {
        let (server, channel) = pair();
        let (one, two) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [one.as_fd(), two.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(&server, &[io::IoSlice::new(b"first")], &mut control, SendFlags::empty()).unwrap();
        send(&server, b"second", SendFlags::empty()).unwrap();
        let first = channel.receive().await.unwrap().unwrap();
        assert_eq!((first.bytes.as_slice(), first.descriptors.len()), (&b"first"[..], 2));
        assert_eq!(channel.receive().await.unwrap().unwrap().bytes.as_slice(), b"second");
        channel.send(b"answer").await.unwrap();
        drop(server);
        assert!(channel.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_packet_that_is_cut_off_is_an_error() {
        let (server, channel) = pair();
        let (one, _two) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let rights = vec![one.as_fd(); DESCRIPTORS_MAX + 16];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX + 16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(&server, &[io::IoSlice::new(b"flood")], &mut control, SendFlags::empty()).unwrap();
        assert!(channel.receive().await.is_err());
    }

    #[tokio::test]
    async fn a_full_socket_makes_the_sender_wait() {
        let (server, channel) = pair();
        let packet = vec![b'x'; 32 * 1024];
        let mut sent = 0;
        // The kernel's buffer is a few hundred kilobytes.
        while tokio::time::timeout(std::time::Duration::from_millis(50), channel.send(&packet)).await.is_ok() {
            sent += 1;
            assert!(sent < 1_000, "nothing ever fills up");
        }
        let mut buffer = vec![0; 64 * 1024];
        // The kernel wakes a sender when most of what waits was taken.
        for _ in 0..sent {
            rustix::net::recv(&server, &mut buffer, RecvFlags::empty()).unwrap();
        }
        channel.send(&packet).await.unwrap();
    }
}
