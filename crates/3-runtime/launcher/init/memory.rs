//! What the compiler takes for granted of a C library. Short blocks, so that plain loops do; the attribute `no_builtins` of
//! the program keeps the compiler from making a call of the very function out of its loop.

// SAFETY: the names are those that the compiler calls, and nothing else of this program has them. The callers, which are
// written by the compiler, pass pointers to as many live bytes as they say.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: see above.
        unsafe { to.add(index).write(from.add(index).read()) };
    }
    to
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: see above; forwards nothing is overwritten before it is read.
        return unsafe { memcpy(to, from, length) };
    }
    for index in (0..length).rev() {
        // SAFETY: see above.
        unsafe { to.add(index).write(from.add(index).read()) };
    }
    to
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: see above. Only the lowest byte counts.
        unsafe { to.add(index).write(value as u8) };
    }
    to
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: see above.
        let (first, second) = unsafe { (one.add(index).read(), other.add(index).read()) };
        if first != second {
            return i32::from(first) - i32::from(second);
        }
    }
    0
}

// SAFETY: see above.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: see above.
    unsafe { memcmp(one, other, length) }
}
