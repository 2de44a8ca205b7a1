//! The SDK against a kernel that is played by the test, over a real socket pair.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod process;
#[cfg(test)]
mod session;
