//! The sandboxes that a launcher has: what their first processes have said, and what is told to the server of it.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use agentos_protocol::sandbox::{End, FromLauncher, Rusage};

use crate::{
    Failure,
    channel::{MESSAGE_BYTES_MAX, Message, Spent},
    sys::{
        packets::{self, Packet, Watch},
        process::{self, Reaped, Status},
    },
};

use super::post::Post;

/// A process, its channel and its listeners are descriptors each; a launcher with more than this has a server that has lost
/// count.
const SANDBOXES_MAX: usize = 4096;

/// A child that has been cloned and told to go.
#[derive(Debug)]
pub struct Born {
    pub id: u64,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub channel: OwnedFd,
    /// What the back end prints before the channel speaks; said if it ends without a word.
    pub complaints: Option<OwnedFd>,
}

#[derive(Debug)]
struct Sandbox {
    born: Born,
    listeners: Vec<OwnedFd>,
    is_running: bool,
    failure: Option<(String, String)>,
    ended: Option<Status>,
    /// With the end, where nothing of it runs any more.
    spent: Option<Spent>,
    is_told: bool,
}

#[derive(Debug)]
pub struct Sandboxes {
    by_number: BTreeMap<u64, Sandbox>,
    last_number: u64,
    /// The server of a single sandbox takes nothing away after it, so it hears of the end as soon as nothing of it runs.
    /// Until the kernel has taken the namespaces apart takes as long again as some commands do.
    is_for_one: bool,
}

/// Two tokens a sandbox: its channel, and its process.
fn tokens(number: u64) -> (u64, u64) {
    (number * 2, number * 2 + 1)
}

impl Sandboxes {
    pub fn new(is_for_one: bool) -> Self {
        Self { by_number: BTreeMap::new(), last_number: 0, is_for_one }
    }

    pub fn has_room(&self) -> bool {
        self.by_number.len() < SANDBOXES_MAX
    }

    pub fn add(&mut self, born: Born, watch: &Watch) -> Result<(), Failure> {
        self.last_number += 1;
        let (channel, process) = tokens(self.last_number);
        let watched =
            watch.add(born.channel.as_raw_fd(), channel).and_then(|()| watch.add(born.pidfd.as_raw_fd(), process));
        if let Err(error) = watched {
            let _ = process::kill_by_pidfd(born.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::reap(born.pid, true);
            return Err(Failure { stage: "watch", message: format!("the sandbox could not be watched: {error}") });
        }
        let sandbox = Sandbox {
            born,
            listeners: Vec::new(),
            is_running: false,
            failure: None,
            ended: None,
            spent: None,
            is_told: false,
        };
        self.by_number.insert(self.last_number, sandbox);
        Ok(())
    }

    /// Something happened at this token.
    pub fn attend(&mut self, token: u64, watch: &Watch, post: &mut Post) {
        let number = token / 2;
        // The process may have been reaped earlier in the same round.
        let Some(sandbox) = self.by_number.get_mut(&number) else { return };
        sandbox.listen(watch, post);
        if self.is_for_one {
            sandbox.tell_early(post);
        }
        if token == tokens(number).0 {
            return;
        }
        match process::reap(sandbox.born.pid, false) {
            Ok(None) => {}
            Ok(Some(reaped)) => {
                watch.remove(sandbox.born.channel.as_raw_fd());
                watch.remove(sandbox.born.pidfd.as_raw_fd());
                if let Some(sandbox) = self.by_number.remove(&number) {
                    sandbox.bury(&reaped, post);
                }
            }
            Err(_) => drop(self.by_number.remove(&number)),
        }
    }
}

impl Sandbox {
    /// Takes what the channel has.
    fn listen(&mut self, watch: &Watch, post: &mut Post) {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        // Ends: a first process says four messages at most, and nobody else holds its side.
        while let Ok(packet) = packets::receive(self.born.channel.as_raw_fd(), &mut buffer, false) {
            if packet.length == 0 {
                watch.remove(self.born.channel.as_raw_fd());
                return;
            }
            let bytes = buffer.get(..packet.length).unwrap_or_default();
            self.hear(Message::decode(bytes), packet, post);
        }
    }

    fn hear(&mut self, message: Option<Message>, packet: Packet, post: &mut Post) {
        match message {
            Some(Message::Failed { stage, message }) if !self.is_running && self.failure.is_none() => {
                self.failure = Some((stage, message));
            }
            Some(Message::Listeners) if !self.is_running => self.listeners = packet.descriptors,
            Some(Message::Started) if !self.is_running && self.failure.is_none() => {
                self.announce(packet.sender, post);
            }
            Some(Message::Ended(status)) if self.is_running => self.ended = Some(status),
            Some(Message::Over { status, spent }) if self.is_running => {
                (self.ended, self.spent) = (Some(status), Some(spent));
            }
            _ => {}
        }
    }

    fn announce(&mut self, sender: Option<i32>, post: &mut Post) {
        match self.init(sender) {
            Ok((pid, pidfd)) => {
                self.is_running = true;
                let descriptors = std::iter::once(pidfd).chain(self.listeners.drain(..)).collect();
                let pid = u32::try_from(pid).unwrap_or(0);
                post.say(&FromLauncher::Spawned { id: self.born.id, pid }, descriptors);
            }
            Err(error) => {
                self.failure = Some(("descriptors".into(), format!("no pidfd of the init: {error}")));
                let _ = process::kill_by_pidfd(self.born.pidfd.as_fd(), libc::SIGKILL);
            }
        }
    }

    /// The sandbox's first process. Of a back end that stays outside of its namespaces, the one that speaks: killing that one
    /// is over when the child of this process ends, and killing the child would not be.
    fn init(&self, sender: Option<i32>) -> io::Result<(i32, OwnedFd)> {
        let found = sender.and_then(|pid| Some((pid, process::open(pid).ok()?)));
        match found {
            // Nobody else holds the other side, so it lives, and its number is still its own.
            Some(init) if !packets::is_hung_up(self.born.channel.as_raw_fd()) => Ok(init),
            // One that has ended already has nothing left to kill.
            _ => Ok((self.born.pid, self.born.pidfd.try_clone()?)),
        }
    }

    fn tell_early(&mut self, post: &mut Post) {
        if let Some(spent) = self.spent.take() {
            self.tell(Rusage { cpu_us: spent.cpu_us, memory_peak_bytes: spent.memory_peak_bytes }, post);
        }
    }

    /// Once.
    fn tell(&mut self, rusage: Rusage, post: &mut Post) {
        let end = match self.ended {
            Some(Status::Exited(code)) => End::Exited(code),
            Some(Status::Signaled(signal)) => End::Signaled(signal),
            None => End::Killed,
        };
        if !std::mem::replace(&mut self.is_told, true) {
            post.say(&FromLauncher::Ended { id: self.born.id, end, rusage }, Vec::new());
        }
    }

    fn bury(mut self, reaped: &Reaped, post: &mut Post) {
        let id = self.born.id;
        if self.is_running {
            return self.tell(Rusage { cpu_us: reaped.cpu_us, memory_peak_bytes: reaped.memory_peak_bytes }, post);
        }
        let (stage, message) = self.failure.unwrap_or_else(|| {
            let complaint = self.born.complaints.as_ref().map(super::spawn::text_of).unwrap_or_default();
            let how = match reaped.status {
                Status::Exited(code) => format!("ended with status {code}"),
                Status::Signaled(signal) => format!("was ended by signal {signal}"),
            };
            ("start".into(), format!("the sandbox's first process {how} before the program ran {complaint}"))
        });
        post.say(&FromLauncher::Failed { id, stage, message: message.trim_end().to_owned() }, Vec::new());
    }
}
