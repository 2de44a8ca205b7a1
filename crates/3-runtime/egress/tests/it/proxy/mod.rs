//! The proxy against hostile programs, hostile servers and hostile names. The test plays the server that the proxy asks, and
//! the program inside, in a network of its own where every address is local: what a sandbox looks like from within.

mod network;
mod servers;
mod stage;

mod answers;
mod bodies;
mod charges;
mod credentials;
mod hello;
mod limits;
mod models;
mod names;
mod program;
mod smuggling;
mod targets;
mod upgrades;
mod waits;
mod ways;
