//! The command line from outside: words in, texts and exit code out, against a small server in the same process.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod chat;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod help;
#[cfg(test)]
mod host;
#[cfg(test)]
mod output;
#[cfg(test)]
mod parse;
mod sandbox;
#[cfg(test)]
mod witnesses;
#[cfg(test)]
mod world;
