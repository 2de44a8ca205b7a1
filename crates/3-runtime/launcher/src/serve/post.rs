//! Messages from and to the server. What the server does not read at once waits here, and as long as much waits, no further
//! order is read.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
};

use agentos_protocol::sandbox::{DESCRIPTORS_MAX, FromLauncher, PACKET_BYTES_MAX, SandboxOrder};

use crate::{
    Failure, order,
    sys::{self, packets},
};

/// Messages that wait before orders are no longer read. Each sandbox says at most two more, so this bounds the queue too.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
pub struct Post {
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub enum Received {
    Closed,
    /// No packet after all, or one that is answered already.
    Nothing,
    Order(Box<SandboxOrder>, Vec<OwnedFd>),
}

impl Post {
    pub fn new(greeting: FromLauncher) -> Self {
        // One byte more, so that a packet above the limit shows.
        let mut post = Self { waiting: VecDeque::new(), buffer: vec![0; PACKET_BYTES_MAX + 1] };
        post.say(&greeting, Vec::new());
        post
    }

    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn say(&mut self, message: &FromLauncher, descriptors: Vec<OwnedFd>) {
        // A message of these types always has a form in JSON.
        if let Ok(bytes) = serde_json::to_vec(message) {
            self.waiting.push_back((bytes, descriptors));
        }
    }

    pub fn failed(&mut self, id: u64, failure: &Failure) {
        let (stage, message) = (failure.stage.to_owned(), failure.message.clone());
        self.say(&FromLauncher::Failed { id, stage, message }, Vec::new());
    }

    /// As much as the socket takes now.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, descriptors)) = self.waiting.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match packets::send(sys::STDIN, bytes, &borrowed, false) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn receive(&mut self) -> io::Result<Received> {
        let packet = match packets::receive(sys::STDIN, &mut self.buffer, false) {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
            Err(error) => return Err(error),
        };
        if packet.length == 0 {
            return Ok(Received::Closed);
        }
        let refused = |id, message| (id, Failure { stage: "order", message });
        let bytes = self.buffer.get(..packet.length).unwrap_or_default();
        let read = match packet.is_cut || packet.descriptors.len() > DESCRIPTORS_MAX {
            true => Err(refused(0, "the packet is cut, or has too many descriptors".into())),
            false => order::read(bytes, packet.descriptors.len()).map_err(|why| refused(why.id, why.message)),
        };
        match read {
            Ok(order) => Ok(Received::Order(Box::new(order), packet.descriptors)),
            Err((id, failure)) => {
                self.failed(id, &failure);
                Ok(Received::Nothing)
            }
        }
    }
}
