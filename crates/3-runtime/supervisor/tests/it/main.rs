//! The supervisor over real processes: the real launcher, a real store, and workers that behave as badly as they can.

#[cfg(test)]
mod agents;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod launchers;
#[cfg(test)]
mod models;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod walls;
#[cfg(test)]
mod work;
