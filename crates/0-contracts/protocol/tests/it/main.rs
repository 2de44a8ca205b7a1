//! The prose specification and the code say the same.

#[cfg(test)]
mod specification;
