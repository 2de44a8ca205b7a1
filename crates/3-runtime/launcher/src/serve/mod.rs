//! The launcher's life: it reads orders from the server, makes a sandbox for each, and tells what becomes of it. One loop,
//! one thread; many sandboxes may be starting at once.

mod post;
mod sandboxes;
mod setup;
mod spawn;

use crate::{Failure, arguments::ServeOptions, sys::packets};

pub use sandboxes::{Born, Sandboxes};
pub use setup::Setup;
pub use spawn::{spawn, text_of};

use post::Post;

/// The socket to the server has this number for the watch; sandboxes have higher ones.
const SERVER: u64 = 0;

/// Returns when the server has closed its side. Every sandbox dies with this process.
pub fn run(options: &ServeOptions) -> Result<(), Failure> {
    let setup = Setup::new(options)?;
    let failed = |error: std::io::Error| Failure { stage: "channel", message: format!("the socket: {error}") };
    let watch = packets::Watch::new().map_err(failed)?;
    watch.add(crate::sys::STDIN, SERVER).map_err(failed)?;
    let mut post = Post::new(setup.greeting());
    let mut sandboxes = Sandboxes::new(setup.is_for_one);
    let mut ready = Vec::new();
    // Whether the socket is watched for orders, and for room.
    let mut watched = (true, false);
    // Ends when the server closes its side, or with the server.
    loop {
        post.flush().map_err(failed)?;
        let wanted = (post.has_room(), !post.is_empty());
        if wanted != watched {
            watch.change(crate::sys::STDIN, SERVER, wanted.0, wanted.1).map_err(failed)?;
            watched = wanted;
        }
        watch.wait(&mut ready).map_err(failed)?;
        for token in &ready {
            match *token {
                SERVER if post.has_room() => match post.receive().map_err(failed)? {
                    post::Received::Closed => return Ok(()),
                    post::Received::Nothing => {}
                    post::Received::Order(order, descriptors) => {
                        let id = order.id;
                        let born = spawn::spawn(&setup, &sandboxes, *order, descriptors);
                        if let Err(failure) = born.and_then(|born| sandboxes.add(born, &watch)) {
                            post.failed(id, &failure);
                        }
                    }
                },
                SERVER => {}
                token => sandboxes.attend(token, &watch, &mut post),
            }
        }
    }
}
