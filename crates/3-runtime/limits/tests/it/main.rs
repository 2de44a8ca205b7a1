//! Attacks on groups, on the kernel that runs the tests: version 1 or 2, whichever this machine has. `make test-vm` runs the
//! same program under version 2.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod refusals;
