//! What can happen in a run. A deed is made of three numbers, so that a seed draws it and a generator shrinks it alike;
//! what it applies to is found when it is done.

/// One of the two nodes whose workers share the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// What the world says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Fine,
    /// Nothing was sent: the connection was refused.
    Unreachable,
    /// It was done, and the answer did not come.
    Silent,
}

/// What the next write of the store meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The log takes no record: the whole commit is refused, the server lives on.
    RefuseCommit,
    /// The process dies before the records of the commit are sealed.
    DieBeforeSeal,
    /// It dies with everything written and nothing committed.
    DieBeforeCommit,
    /// It dies after the commit and before anybody has an answer.
    DieBeforeAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Submit {
        key: Option<u8>,
        delay_s: u64,
        deadline_s: Option<u64>,
        script: u64,
    },
    Claim {
        side: Side,
        slots: usize,
    },
    /// One move of one worker.
    Work {
        pick: u16,
        answer: Answer,
    },
    GiveUp {
        pick: u16,
        class: u16,
    },
    Renew {
        side: Side,
    },
    /// A write under a lease that is over.
    Stale {
        pick: u16,
        write: u16,
    },
    Cancel {
        pick: u16,
    },
    /// A person decides about a step in doubt.
    Decide {
        pick: u16,
        again: bool,
    },
    Redrive {
        pick: u16,
        edit: bool,
    },
    /// Time passes, and the sweeper looks.
    Pass {
        seconds: u64,
    },
    /// Somebody sets the clock.
    Jump {
        minutes: i64,
    },
    /// Both nodes believe that they fire the schedules.
    Fire,
    PutSchedule {
        name: u16,
        every_s: u64,
        cron: bool,
    },
    PauseSchedule {
        name: u16,
        paused: bool,
    },
    RemoveSchedule {
        name: u16,
    },
    /// Several submissions in one commit, among them an operation that fails half-way.
    Together {
        count: usize,
    },
    /// The process dies between two operations. `torn`: the end of the write-ahead log is garbage.
    Die {
        torn: bool,
    },
    Arm(Fault),
}

impl Deed {
    /// `kind` in `0..KINDS`; smaller numbers are simpler deeds.
    pub const KINDS: u8 = 100;

    pub fn of(kind: u8, a: u16, b: u16) -> Self {
        let (low, yes) = (u64::from(b % 256), b % 2 == 1);
        match kind {
            0..14 => Self::Submit {
                key: (a % 3 == 1).then_some((b % 8) as u8),
                delay_s: if a % 4 == 2 { low % 30 } else { 0 },
                deadline_s: (a % 5 == 3).then_some(35 + low),
                script: u64::from(a / 5),
            },
            14..24 => Self::Claim { side: if yes { Side::B } else { Side::A }, slots: 1 + usize::from(a % 3) },
            24..54 => Self::Work {
                pick: a,
                answer: match b % 12 {
                    10 => Answer::Unreachable,
                    11 => Answer::Silent,
                    _ => Answer::Fine,
                },
            },
            54..57 => Self::GiveUp { pick: a, class: b },
            57..60 => Self::Renew { side: if yes { Side::B } else { Side::A } },
            60..64 => Self::Stale { pick: a, write: b },
            64..67 => Self::Cancel { pick: a },
            67..70 => Self::Decide { pick: a, again: !b.is_multiple_of(3) },
            70..73 => Self::Redrive { pick: a, edit: b.is_multiple_of(3) },
            73..79 => Self::Pass { seconds: u64::from(a % 25) },
            79..81 => Self::Jump { minutes: i64::from(a % 600) - 300 },
            81..85 => Self::Fire,
            85..88 => Self::PutSchedule { name: a % 3, every_s: 1 + low % 90, cron: a % 4 == 1 },
            88 => Self::PauseSchedule { name: a % 3, paused: yes },
            89 => Self::RemoveSchedule { name: a % 3 },
            90..93 => Self::Together { count: 2 + usize::from(a % 3) },
            93..95 => Self::Die { torn: yes },
            _ => Self::Arm(match a % 4 {
                0 => Fault::RefuseCommit,
                1 => Fault::DieBeforeSeal,
                2 => Fault::DieBeforeCommit,
                _ => Fault::DieBeforeAnswer,
            }),
        }
    }

    /// Does it make one commit at most? Then what a crash leaves is the state before it or the state after it.
    pub fn is_one_commit(self) -> bool {
        matches!(
            self,
            Self::Submit { .. }
                | Self::Claim { .. }
                | Self::GiveUp { .. }
                | Self::Renew { .. }
                | Self::Cancel { .. }
                | Self::Decide { .. }
                | Self::Redrive { .. }
                | Self::PutSchedule { .. }
        )
    }
}
