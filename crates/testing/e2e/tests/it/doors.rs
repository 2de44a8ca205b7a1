//! Strangers at the door of the real program: who only wants to occupy, and who sends what nobody should send.

mod hostile;
mod probes;
mod readers;
mod slots;
mod wire;
