//! What the server does with one request.

/// Numbers of events count from the start of a stream: 0 is before the head. Of an answer that is no stream, the head with
/// half of the body counts as 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// A real answer: the last text of the user, its tools and its schema decide it.
    #[default]
    Answer,
    /// A real answer with this text.
    Say(String),
    /// A real answer that claims to have cost so many tokens, input and output.
    Usage(u64, u64),
    /// A real answer that says nothing of its cost.
    NoUsage,
    /// A call of each of these tools at once: name and arguments.
    Call(Vec<(String, String)>),
    /// The provider's filter stopped it.
    Filtered,
    /// An error as the protocol writes it, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Exactly this: status, type, body.
    Raw(u16, &'static str, Vec<u8>),
    /// 200, and the body, or the first event, is an error.
    ErrorInside200,
    /// Takes the request and closes the connection without a word.
    Hangup,
    /// Sends so many events, then nothing until it is released.
    Hold { after: usize },
    /// Sends so many events, and one more for each release.
    Step { after: usize },
    /// Sends so many events and half of one more, and closes the connection.
    Cut { after: usize },
    /// Sends so many events and ends in good order, but without the event that says so.
    End { after: usize },
    /// Sends so many events and one that cannot be read.
    Malformed { after: usize },
    /// Sends so many events and then the protocol's event of an error.
    ErrorEvent { after: usize },
    /// Each byte in a piece of its own.
    Trickle,
    /// One event, or a body, of so many bytes of text.
    Huge(usize),
    /// A whole answer, though a stream was asked for.
    NotStreamed,
}

impl Act {
    /// 429 with the seconds after which to come again.
    pub fn rate_limited(retry_after: Option<&str>) -> Self {
        Act::Status(429, retry_after.map(|seconds| ("retry-after", seconds.to_owned())).into_iter().collect())
    }

    pub fn status(status: u16) -> Self {
        Act::Status(status, Vec::new())
    }

    pub fn say(text: &str) -> Self {
        Act::Say(text.to_owned())
    }
}
