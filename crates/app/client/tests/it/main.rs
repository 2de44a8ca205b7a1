//! The client against small servers in the same process.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod server;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tls;
