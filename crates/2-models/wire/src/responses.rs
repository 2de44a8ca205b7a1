//! OpenAI's Responses, as a client's protocol: the subset in which the provider remembers nothing. What needs its memory, its
//! tools or its background is refused by name. A provider of Responses gets the client's bytes and is never translated for.

mod answer;
mod ask_read;
mod input;
mod items;
mod stream_write;

pub use answer::write_answer;
pub use ask_read::read_ask;
pub use stream_write::Writer;
