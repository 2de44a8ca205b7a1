//! Stories on the real program: what a user sees, what an attacker tries, what a crash leaves behind.

mod command_line;
mod crash;
mod first_light;
mod gateway;
mod honest_status;
mod readme;
mod rogue;
mod secrets;
mod trust;
