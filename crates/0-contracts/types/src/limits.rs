//! Limits that two floors must agree on. Settings may lower them; nothing raises them.

/// Largest worker frame, both ways. A frame is length-prefixed by a big-endian u32.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest task input or output as JSON.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Largest value of one `kv` key as JSON.
pub const KV_VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Largest `kv` key.
pub const KV_KEY_BYTES_MAX: usize = 256;
/// Rows in one page of any listing.
pub const PAGE_MAX: usize = 500;
/// Rows in a page when the caller names no limit.
pub const PAGE_DEFAULT: usize = 50;
/// Steps of one task; a loop that passes it is a defect of the agent.
pub const STEPS_PER_TASK_MAX: i64 = 10_000;
/// Bytes of a step key.
pub const STEP_KEY_BYTES_MAX: usize = 200;
/// Nesting of any JSON that comes from outside.
pub const JSON_DEPTH_MAX: usize = 64;
