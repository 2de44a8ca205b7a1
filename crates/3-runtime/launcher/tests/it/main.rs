//! The real launcher over a real socket pair; what it promises is read back from the worker's own /proc.

#[cfg(test)]
mod examples;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod inheritance;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod parent;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod server;
