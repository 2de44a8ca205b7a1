//! Paths in one spelling: absolute, no empty component, no `.` and no `..`, so that text that is equal is a place that is
//! equal.

/// The kernel's own limit, its NUL byte taken off.
pub const PATH_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;

pub fn check_plain(what: &str, path: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("the {what} '{}' {why}", path.escape_debug()));
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("a {what} of {} bytes is above the limit of {PATH_BYTES_MAX}", path.len()));
    }
    let Some(rest) = path.strip_prefix('/') else { return wrong("is not an absolute path") };
    if path.contains('\0') {
        return wrong("holds a NUL byte");
    }
    for name in rest.split('/') {
        match name {
            "" | "." | ".." => return wrong("is not a plain path"),
            _ if name.len() > NAME_BYTES_MAX => return wrong("has a name above 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}
