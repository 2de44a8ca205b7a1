//! The protocols in which programs talk to models, and nothing but them: bytes in, bytes out, no I/O, no clock, no state of
//! others.
//!
//! Two ways lead through here. Client and provider speak the same protocol: the bytes are forwarded, and only what
//! [`splice`] names is touched. They speak different ones: the request is read into an [`Ask`], written for the provider, and
//! its answer comes back through an [`Answer`] or, event by event, through [`Delta`]s.
//!
//! The law of this crate: **no field is dropped in silence**. What a reader knows has its place in the types here; what it
//! does not know is kept in an [`Object`] of extras; and a writer either puts each of them where its protocol has a place for
//! it, or refuses the request with the field's name before anything is sent.

mod answer;
mod ask;
mod chat;
mod delta;
pub mod emulate;
mod errors;
mod estimate;
pub mod eventstream;
mod failure;
mod fields;
mod gather;
mod gemini;
mod messages;
mod object;
mod peek;
mod protocol;
mod refusal;
mod responses;
mod scan;
pub mod sigv4;
mod splice;
pub mod sse;
mod stream;
mod tap;
mod told;
mod translate;

pub use answer::{Answer, Choice, Finish, Usage};
pub use ask::{Ask, CacheHint, Format, ImageSource, Part, Reasoning, Role, Tool, ToolChoice, Turn};
pub use delta::Delta;
pub use errors::{WireError, write_error};
pub use estimate::{Bytes, delivered_tokens, input_tokens_max, input_tokens_max_by};
pub use failure::{Class, Evidence, Failure, Phase, classify};
pub use gather::Gather;
pub use messages::{read_count, read_counted, write_count, write_counted};
pub use object::{Object, Raw};
pub use peek::{Needs, Peek, peek, peek_embeddings};
pub use protocol::Protocol;
pub use refusal::Refusal;
pub use splice::{Changes, Dialect, splice};
pub use stream::{StreamReader, StreamWriter, broken};
pub use tap::{Seen, Tap};
pub use translate::{left_to_provider, read_answer, read_ask, write_answer, write_ask, write_ask_as};
