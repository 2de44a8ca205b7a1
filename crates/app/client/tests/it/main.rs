//! The client against small servers in the same process.

mod answers;
mod routes;
mod server;
mod streams;
mod tls;
