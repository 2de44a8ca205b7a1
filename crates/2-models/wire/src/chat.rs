//! OpenAI's Chat Completions, and what follows it: as a client's protocol and as a provider's.

mod answer;
mod ask_read;
mod ask_write;
mod finish;
mod message;
mod stream_read;
mod stream_write;
mod usage;

pub use answer::{read_answer, write_answer};
pub(crate) use ask_read::{read_ask, read_schema};
pub use ask_write::{left_to_provider, write_ask};
pub(crate) use message::read_image;
pub use stream_read::Reader;
pub use stream_write::Writer;
pub(crate) use usage::Figures;
