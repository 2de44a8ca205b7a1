//! What the file promises by itself: which rests of it are taken up, and what a medium that fails does to it.

use std::{
    io,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use agentos_base::Ambient;
use agentos_types::{Actor, Code, Timestamp, audit::AuditEvent};

use super::{
    Spool,
    files::{Half, Medium, NAMES, Part, TURN_BYTES},
    frame::{BOUNDARY, Draft, Frame, Head, Link, scan},
    queue::{Backlog, DRAIN_MAX},
    recovery::{Mark, judge},
};

const ID: [u8; 16] = [7; 16];

fn event(what: impl std::fmt::Display) -> AuditEvent {
    let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1));
    AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "test.act", what.to_string())
}

fn names(frames: &[Frame]) -> Vec<String> {
    frames.iter().flat_map(|frame| frame.events().unwrap()).map(|event| event.resource).collect()
}

/// Files in memory that fail when they are told to, and count.
#[derive(Default)]
struct Memory {
    parts: Mutex<Vec<(String, Arc<Bytes>)>>,
    switches: Arc<Switches>,
}

#[derive(Default)]
struct Switches {
    is_full: AtomicBool,
    write_fails: AtomicBool,
    sync_fails: AtomicBool,
    syncs: AtomicUsize,
    /// A sync waits here for the test, twice.
    gate: Mutex<Option<Arc<Barrier>>>,
}

#[derive(Default)]
struct Bytes {
    content: Mutex<Vec<u8>>,
    switches: Arc<Switches>,
}

impl Medium for Arc<Memory> {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Part>> {
        let part = Arc::new(Bytes { switches: self.switches.clone(), ..Bytes::default() });
        self.parts.lock().unwrap().push((name.to_owned(), part.clone()));
        Ok(part)
    }

    fn remove(&self, names: &[&str]) -> io::Result<()> {
        self.parts.lock().unwrap().retain(|(name, _)| !names.contains(&name.as_str()));
        Ok(())
    }
}

impl Part for Bytes {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        if self.switches.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut content = self.content.lock().unwrap();
        let end = content.len().max(at + bytes.len());
        content.resize(end, 0);
        if self.switches.write_fails.load(Ordering::Relaxed) {
            // Half of it arrives.
            content[at..at + bytes.len() / 2].copy_from_slice(&bytes[..bytes.len() / 2]);
            return Err(io::Error::other("the medium fails"));
        }
        content[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let gate = self.switches.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.wait();
            gate.wait();
        }
        self.switches.syncs.fetch_add(1, Ordering::Relaxed);
        if self.switches.sync_fails.load(Ordering::Relaxed) {
            Err(io::Error::other("the medium fails"))
        } else {
            Ok(())
        }
    }
}

impl Memory {
    fn frames(&self) -> Vec<Frame> {
        self.parts.lock().unwrap().iter().flat_map(|(_, part)| scan(&part.content.lock().unwrap()).0).collect()
    }
}

/// A spool that the database knows.
fn open() -> (Arc<Memory>, Arc<Spool>) {
    let memory = Arc::new(Memory::default());
    let spool = Spool::on(Box::new(memory.clone()), ID);
    assert!(spool.append(vec![event("before")]).is_err(), "the database does not know it yet");
    assert_eq!(spool.mark(&Backlog::default()), Some(mark(0, Link::default())));
    spool.drained(&mut Backlog::default(), true);
    (memory, spool)
}

fn mark(number: u64, link: Link) -> Mark {
    Mark { spool: ID, number, link }
}

/// What a commit does.
fn drain(spool: &Spool) -> Vec<String> {
    let mut backlog = Backlog::default();
    spool.hand_over(&mut backlog);
    let names = backlog.events.iter().map(|event| event.resource.clone()).collect();
    spool.drained(&mut backlog, true);
    names
}

/// Frames as they follow each other, each written when all before it were durable up to `lag` frames ago.
fn file(frames: usize, lag: u64) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends, mut previous) = (Vec::new(), Vec::new(), Link::default());
    for number in 1..=u64::try_from(frames).unwrap() {
        let events = vec![event(number); usize::try_from(number % 3).unwrap() + 1];
        let head = Head { spool: ID, number, durable: number.saturating_sub(1 + lag), previous };
        let (frame, link) = Draft::of(&events).unwrap().placed(&head);
        assert_eq!(frame.len() % BOUNDARY, 0);
        bytes.extend(frame);
        ends.push(bytes.len());
        previous = link;
    }
    (bytes, ends)
}

fn taken(bytes: &[u8], mark: Mark) -> Result<u64, Code> {
    let taken = judge(scan(bytes).0, Some(mark)).map_err(|fault| fault.code)?;
    let last = taken.frames.last().map_or(mark.number, |last| last.head.number);
    assert_eq!(u64::try_from(taken.frames.len()).unwrap(), last - mark.number, "without a hole");
    Ok(last)
}

#[test]
fn a_file_that_ends_at_any_byte_gives_the_frames_that_are_whole() {
    let (bytes, ends) = file(5, 0);
    for end in 0..=bytes.len() {
        // The padding of a frame holds nothing; what was not written is zero, or is not there.
        let whole = ends.iter().filter(|frame| **frame <= end.next_multiple_of(BOUNDARY)).count();
        let least = ends.iter().filter(|frame| **frame <= end).count();
        let mut zeros = bytes[..end].to_vec();
        zeros.resize(bytes.len() + 500, 0);
        for rest in [&bytes[..end], &zeros] {
            let taken = usize::try_from(taken(rest, mark(0, Link::default())).unwrap()).unwrap();
            assert!((least..=whole).contains(&taken), "{taken} of {least} to {whole} frames at {end}");
        }
    }
}

#[test]
fn a_changed_byte_is_refused_unless_nobody_can_have_been_answered() {
    let (bytes, ends) = file(5, 0);
    let sound = scan(&bytes).0;
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        let at = ends.iter().filter(|end| **end <= place).count();
        let found = taken(&bytes, mark(0, Link::default()));
        if scan(&bytes).0.len() == sound.len() {
            // Between two frames.
            assert_eq!(found, Ok(5), "byte {place}");
        } else if at == 4 {
            assert_eq!(found, Ok(4), "byte {place}: the newest frame may be torn");
        } else {
            assert_eq!(found, Err(Code::AUDIT_TAMPERED), "byte {place}");
        }
    }
}

#[test]
fn a_lost_machine_may_leave_any_of_the_frames_that_nobody_has_synced() {
    // The last three were written without a sync between them.
    let (bytes, ends) = file(6, 2);
    let mut torn = bytes.clone();
    torn[ends[3]..ends[4]].fill(0);
    assert_eq!(taken(&torn, mark(0, Link::default())), Ok(4));
    let mut damaged = bytes.clone();
    damaged[ends[1]..ends[2]].fill(0);
    assert_eq!(taken(&damaged, mark(0, Link::default())), Err(Code::AUDIT_TAMPERED));
}

#[test]
fn what_the_database_has_is_not_taken_again_and_another_history_is_refused() {
    let (bytes, _) = file(6, 0);
    let frames = scan(&bytes).0;
    for frame in &frames {
        assert_eq!(taken(&bytes, mark(frame.head.number, frame.link)), Ok(6));
        assert_eq!(taken(&bytes, mark(frame.head.number, [9; 16])), Err(Code::AUDIT_TAMPERED));
    }
    // The database is ahead; it is behind, and what lies between has been written over.
    assert_eq!(taken(&bytes, mark(99, [9; 16])), Ok(99));
    let cut = &bytes[BOUNDARY..];
    assert_eq!(taken(cut, mark(0, Link::default())), Err(Code::AUDIT_TAMPERED));
    // Another life of the server, or none that the database knows of.
    let other = Mark { spool: [8; 16], ..mark(0, Link::default()) };
    assert_eq!(taken(&bytes, other), Err(Code::AUDIT_TAMPERED));
    assert_eq!(judge(scan(&bytes).0, None).map(|_| ()).unwrap_err().code, Code::AUDIT_TAMPERED);
    assert!(judge(Vec::new(), None).unwrap().frames.is_empty());
}

#[test]
fn the_two_files_take_turns_and_nothing_is_written_over_before_the_database_has_it() {
    let (memory, spool) = open();
    let long = "x".repeat(20_000);
    let (mut expected, mut sealed) = (Vec::new(), Vec::new());
    // Some four turns.
    for number in 0..1_000 {
        let name = format!("{number}-{long}");
        spool.append(vec![event(&name)]).unwrap();
        expected.push(name);
        if number % 7 == 0 {
            let left = judge(memory.frames(), Some(mark_of(&spool, &memory))).unwrap();
            assert_eq!(names(&left.frames), expected[sealed.len()..], "after {number}");
            sealed.extend(drain(&spool));
        }
    }
    sealed.extend(drain(&spool));
    assert_eq!(sealed, expected);
    let parts = memory.parts.lock().unwrap();
    assert_eq!(parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), NAMES);
    for (name, part) in parts.iter() {
        let length = part.content.lock().unwrap().len();
        assert!(u64::try_from(length).unwrap() <= TURN_BYTES + 1024 * 1024, "{name} has {length} bytes");
    }
}

/// What the row says after the last drain.
fn mark_of(spool: &Spool, memory: &Memory) -> Mark {
    let number = spool.state().queue.drained_to();
    let link =
        memory.frames().iter().find(|frame| frame.head.number == number).map_or(Link::default(), |frame| frame.link);
    mark(number, link)
}

#[test]
fn beyond_its_bounds_it_takes_nothing_and_a_drain_makes_room() {
    let (_, spool) = open();
    assert!(spool.append(vec![]).is_err());
    assert!(spool.append(vec![event("x"); 65]).is_err(), "that is no call");
    assert!(spool.append(vec![event("x".repeat(300_000))]).is_err(), "that is no record");
    let taken = std::iter::repeat_with(|| spool.append(vec![event("x"); 64])).take_while(Result::is_ok).count();
    assert_eq!((taken * 64, spool.waiting()), (8_192, 8_192));
    assert_eq!(drain(&spool).len(), DRAIN_MAX);
    assert!(spool.append(vec![event("x")]).is_ok());
    let big = "x".repeat(250_000);
    while !drain(&spool).is_empty() {}
    let taken = std::iter::repeat_with(|| spool.append(vec![event(&big)])).take_while(Result::is_ok).count();
    assert!((50..=70).contains(&taken), "{taken} times 250 KB");
}

#[test]
fn what_the_database_refuses_stays_in_line_and_nothing_new_is_taken() {
    let (_, spool) = open();
    spool.append(vec![event("one")]).unwrap();
    let mut backlog = Backlog::default();
    spool.hand_over(&mut backlog);
    // The transaction fails; the writer keeps what it holds.
    spool.refuse();
    assert_eq!(spool.append(vec![event("two")]).unwrap_err()[0].resource, "two");
    // A commit without a record proves nothing.
    spool.drained(&mut backlog, false);
    assert_eq!((spool.waiting(), spool.append(vec![event("two")]).is_err()), (1, true));
    spool.hand_over(&mut backlog);
    assert_eq!(backlog.events.len(), 1);
    spool.drained(&mut backlog, true);
    assert_eq!((spool.waiting(), spool.append(vec![event("two")]).is_ok()), (0, true));
}

#[test]
fn a_full_disk_is_no_failure_and_a_failed_write_is_one_for_good() {
    let (memory, spool) = open();
    memory.switches.is_full.store(true, Ordering::Relaxed);
    assert!(spool.append(vec![event("one")]).is_err());
    memory.switches.is_full.store(false, Ordering::Relaxed);
    spool.append(vec![event("one")]).unwrap();
    memory.switches.write_fails.store(true, Ordering::Relaxed);
    assert!(spool.append(vec![event("two")]).is_err());
    memory.switches.write_fails.store(false, Ordering::Relaxed);
    assert!(spool.append(vec![event("three")]).is_err(), "until the next start");
    assert_eq!(names(&judge(memory.frames(), Some(mark(0, Link::default()))).unwrap().frames), ["one"]);
    assert_eq!(drain(&spool), ["one"]);
}

#[tokio::test]
async fn a_sync_that_failed_is_never_tried_again() {
    let (memory, spool) = open();
    spool.state().line.quick();
    let first = spool.append(vec![event("one")]).unwrap();
    assert!(spool.durable(first).await);
    let second = spool.append(vec![event("two")]).unwrap();
    memory.switches.sync_fails.store(true, Ordering::Relaxed);
    assert!(!spool.durable(second).await);
    memory.switches.sync_fails.store(false, Ordering::Relaxed);
    assert!(!spool.durable(second).await, "nobody knows what the disk has");
    assert_eq!(memory.switches.syncs.load(Ordering::Relaxed), 2);
    assert!(spool.append(vec![event("three")]).is_err());
    // In memory it still is, and the database makes it durable.
    assert!(spool.durable(first).await);
    assert_eq!(drain(&spool), ["one", "two"]);
    assert!(spool.durable(second).await && spool.has_drained(second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_while_somebody_syncs_shares_the_next_sync() {
    const CALLERS: usize = 50;
    let (memory, spool) = open();
    let (writer, _queue) = tokio::sync::mpsc::channel(4);
    let keeper = super::Keeper::start(spool.clone(), writer.downgrade()).unwrap();
    spool.state().line.quick();
    let gate = Arc::new(Barrier::new(2));
    *memory.switches.gate.lock().unwrap() = Some(gate.clone());
    let first = spool.append(vec![event("first")]).unwrap();
    let syncing = tokio::spawn({
        let spool = spool.clone();
        async move { spool.durable(first).await }
    });
    // Inside of the first sync.
    tokio::task::block_in_place(|| gate.wait());
    *memory.switches.gate.lock().unwrap() = None;
    let (sender, mut inside) = tokio::sync::mpsc::unbounded_channel();
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let (spool, sender) = (spool.clone(), sender.clone());
        callers.spawn(async move {
            let number = spool.append(vec![event(number)]).unwrap();
            sender.send(()).unwrap();
            spool.durable(number).await
        });
    }
    // One more gives up while it waits. Nobody else notices.
    let gone = tokio::spawn({
        let spool = spool.clone();
        async move {
            let number = spool.append(vec![event("gone")]).unwrap();
            sender.send(()).unwrap();
            spool.durable(number).await
        }
    });
    for _ in 0..=CALLERS {
        inside.recv().await.unwrap();
    }
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    tokio::task::block_in_place(|| gate.wait());
    assert!(syncing.await.unwrap());
    while let Some(durable) = callers.join_next().await {
        assert!(durable.unwrap());
    }
    let syncs = memory.switches.syncs.load(Ordering::Relaxed);
    assert!((2..=10).contains(&syncs), "{syncs} syncs for {CALLERS} callers in line");
    assert_eq!(drain(&spool).len(), CALLERS + 2);
    drop(keeper);
}

#[test]
fn the_end_of_an_orderly_life_leaves_no_file_and_another_end_leaves_all() {
    let (memory, spool) = open();
    spool.append(vec![event("one")]).unwrap();
    spool.remove();
    assert_eq!(memory.parts.lock().unwrap().len(), 1, "it is needed");
    drain(&spool);
    spool.remove();
    assert_eq!(memory.parts.lock().unwrap().len(), 0);
}

#[test]
fn a_mark_reads_back_and_nothing_else_does() {
    let half = Half::new(NAMES[0]);
    assert!(half.part().is_none(), "a file is made when it is needed");
    let mark = Mark { spool: ID, number: u64::MAX, link: [255; 16] };
    assert_eq!(Mark::parse(&mark.to_text()), Some(mark));
    for text in ["", "a b c", "07 1", "07 1 ff x", "07 -1 ff"] {
        assert_eq!(Mark::parse(text), None, "{text}");
    }
}
