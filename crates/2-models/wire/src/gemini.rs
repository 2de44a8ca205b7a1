//! Google's Gemini, as a provider's protocol only: requests are written, answers and streams are read.

mod answer;
mod ask;
mod parts;
mod stream;
pub mod tap;
mod usage;

pub use answer::read_answer;
pub use ask::{left_to_provider, write_ask};
pub(crate) use parts::google_extra;
pub use stream::Reader;

use crate::{ImageSource, Object, Part, fields};

/// A part that no stream of a client can hold.
fn part_as_extra(part: Part) -> Object {
    let (name, value) = match part {
        Part::Other { kind, raw } => (kind, raw),
        Part::Image { source: ImageSource::Inline { media_type, data }, .. } => {
            let data = fields::Build::new().with("mimeType", &media_type).with("data", &data);
            ("inlineData".to_owned(), data.raw())
        }
        _ => return Object::default(),
    };
    let mut extra = Object::default();
    extra.put(name, value);
    extra
}
