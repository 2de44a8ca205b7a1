//! One packet of a launcher's socket: JSON with descriptors beside it. SOCK_SEQPACKET keeps the borders of messages, so
//! that there is no framing that could be got wrong; what was cut off by the kernel is an error and never read.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use agentos_protocol::sandbox::{DESCRIPTORS_MAX, PACKET_BYTES_MAX};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
    },
};

const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

/// Ours and theirs. Both take a packet of the largest size, which is more than the kernel's default.
pub(crate) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&ours, &theirs] {
        sockopt::set_socket_send_buffer_size(end, 2 * PACKET_BYTES_MAX)?;
    }
    Ok((ours, theirs))
}

/// Does not wait when `flags` say so: then a full queue is `EAGAIN`.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[OwnedFd], flags: SendFlags) -> Result<(), Errno> {
    let mut space = [MaybeUninit::<u8>::uninit(); ANCILLARY_BYTES];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Waits for one packet, unless `flags` say otherwise: then an empty queue is `EAGAIN`. `None`: the other side has closed.
/// The descriptors close on exec and are whole.
pub(crate) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<Option<(usize, Vec<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::<u8>::uninit(); ANCILLARY_BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((message.bytes > 0).then_some((message.bytes, descriptors)))
}

#[cfg(test)]
mod tests {
    use rustix::io::dup;

    use super::*;

    #[test]
    fn a_packet_of_the_largest_size_with_the_most_descriptors_arrives_whole() {
        let (ours, theirs) = pair().unwrap();
        let descriptors: Vec<_> = (0..DESCRIPTORS_MAX).map(|_| dup(&ours).unwrap()).collect();
        send(&ours, &vec![7; PACKET_BYTES_MAX], &descriptors, SendFlags::DONTWAIT).unwrap();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let (length, received) = receive(&theirs, &mut buffer, RecvFlags::empty()).unwrap().unwrap();
        assert_eq!((length, received.len()), (PACKET_BYTES_MAX, DESCRIPTORS_MAX));
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_the_end_is_the_end() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &[1; 9], &[], SendFlags::empty()).unwrap();
        assert_eq!(receive(&theirs, &mut [0; 8], RecvFlags::empty()).unwrap_err(), Errno::MSGSIZE);
        drop(ours);
        assert!(receive(&theirs, &mut [0; 8], RecvFlags::empty()).unwrap().is_none());
    }

    #[test]
    fn a_full_queue_is_told_and_nothing_is_lost() {
        let (ours, theirs) = pair().unwrap();
        let mut sent = 0_usize;
        while send(&ours, &[1; 1024], &[], SendFlags::DONTWAIT).is_ok() {
            sent += 1;
        }
        assert_eq!(send(&ours, &[1; 1024], &[], SendFlags::DONTWAIT), Err(Errno::AGAIN));
        assert_eq!(receive(&ours, &mut [0; 8], RecvFlags::DONTWAIT).unwrap_err(), Errno::AGAIN);
        drop(ours);
        let mut buffer = [0; 1024];
        while receive(&theirs, &mut buffer, RecvFlags::empty()).unwrap().is_some() {
            sent -= 1;
        }
        assert_eq!(sent, 0);
    }
}
