//! Anthropic's Messages: as a client's protocol and as a provider's.
//!
//! Three differences to other protocols decide the shape of this module. Results of tools are part of a user's turn; turns
//! alternate, so that the writer merges those of one side; and the bound of the answer is not optional.

mod answer;
mod ask_read;
mod ask_write;
pub(crate) mod blocks;
mod count;
mod error;
mod stream_read;
mod stream_write;
pub mod tap;
mod usage;

pub use answer::{read_answer, write_answer};
pub use ask_read::{read_ask, read_count};
pub use ask_write::{write_ask, write_count};
pub use count::{read_counted, write_counted};
pub use error::{body as error_body, kind as error_kind};
pub use stream_read::Reader;
pub use stream_write::Writer;
