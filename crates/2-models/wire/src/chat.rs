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
pub use ask_read::read_ask;
pub use ask_write::{left_to_provider, write_ask};
pub use stream_read::Reader;
pub use stream_write::Writer;

#[cfg(test)]
mod tests;
