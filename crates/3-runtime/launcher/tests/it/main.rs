//! The real launcher over a real socket pair; what it promises is read back from the worker's own /proc.

#[cfg(test)]
mod capture;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod inherited;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod server;
#[cfg(test)]
mod start;
