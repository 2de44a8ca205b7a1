//! The gateway from outside: a real listener on a loopback port, real clients, and a small kernel in memory.

#[cfg(test)]
mod access;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod captured;
#[cfg(test)]
mod chats;
#[cfg(test)]
mod door;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lockout;
#[cfg(test)]
mod models;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod websocket;
