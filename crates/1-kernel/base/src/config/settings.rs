//! The table of settings. One row is the single source for parsing, validation, `config schema`, the reference page and
//! `.env.example`. Each room of it is a file beside this one; a new row goes into the room of its section.

use super::setting::Setting;

mod gateway;
mod log;
mod models;
mod reach;
mod reserved;
mod telemetry;
mod work;

/// Variables of the programs that are not settings of the server.
pub const OTHERS: &[(&str, &str)] = &[
    ("AGENT_OS_HOME", "Data directory for every command that is given no --data-dir."),
    ("AGENT_OS_URL", "Server that the commands talk to; without it they use the one of the data directory."),
    ("AGENT_OS_TOKEN", "Token that the commands present; without it they use the one of the data directory."),
];

/// All rooms, one after the other, as the reference shows them.
pub const SETTINGS: &[Setting] = &joined::<{ count() }>();

const ROOMS: [&[Setting]; 7] =
    [gateway::GATEWAY, models::MODELS, work::WORK, reach::REACH, log::LOG, telemetry::TELEMETRY, reserved::RESERVED];

#[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
const fn count() -> usize {
    let (mut room, mut sum) = (0, 0);
    while room < ROOMS.len() {
        sum += ROOMS[room].len();
        room += 1;
    }
    sum
}

/// Carried out by the compiler, which refuses a table that does not come out even.
#[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
const fn joined<const COUNT: usize>() -> [Setting; COUNT] {
    let mut all = [gateway::GATEWAY[0]; COUNT];
    let (mut room, mut next) = (0, 0);
    while room < ROOMS.len() {
        let mut row = 0;
        while row < ROOMS[room].len() {
            all[next] = ROOMS[room][row];
            (next, row) = (next + 1, row + 1);
        }
        room += 1;
    }
    all
}
