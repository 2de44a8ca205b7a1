//! Frames of workers, strict JSON, and the bodies of the API.

use agentos_api::body::{
    AuditFilter, CreateSchedule, CreateToken, DeployAgent, RedriveTask, RotateToken, SecretValue, SubmitTask,
};
use agentos_protocol::{
    KernelFrame, WorkerFrame,
    wire::{FrameBuffer, decode, encode},
};
use agentos_types::{json, limits::JSON_DEPTH_MAX};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Frames that one input can hold; each is read in both directions.
const FRAMES_MAX: usize = 64;

/// The first byte tells how the rest is cut into reads.
pub fn frames(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    let mut buffer = FrameBuffer::default();
    let mut seen = 0;
    for part in stream.chunks(usize::from(*first).max(1)) {
        buffer.extend(part);
        while let Ok(Some(payload)) = buffer.next_payload() {
            seen += 1;
            if seen > FRAMES_MAX {
                return;
            }
            same_again::<WorkerFrame>(payload);
            same_again::<KernelFrame>(payload);
        }
    }
}

fn same_again<F: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(payload: &[u8]) {
    let Ok(frame) = decode::<F>(payload) else { return };
    // A frame that grows when it is written out may be above the limit, and is then refused.
    let Ok(bytes) = encode(&frame) else { return };
    let mut buffer = FrameBuffer::default();
    buffer.extend(&bytes);
    let Ok(Some(again)) = buffer.next_payload() else { panic!("what was encoded is not a frame") };
    match decode::<F>(again) {
        Ok(second) => assert_eq!(frame, second, "a frame changed on its way"),
        Err(fault) => panic!("what was encoded is refused: {fault}"),
    }
}

pub fn json(data: &[u8]) {
    let Ok(value) = json::parse(data) else { return };
    assert!(json::depth(&value) <= JSON_DEPTH_MAX, "the depth is bounded");
    let lenient: Result<Value, _> = serde_json::from_slice(data);
    assert!(lenient.is_ok_and(|lenient| lenient == value), "strict and lenient readers see the same");
    let canonical = json::canonical(&value);
    match json::parse(&canonical) {
        Ok(again) => assert_eq!(again, value, "the canonical form means the same"),
        Err(reason) => panic!("the canonical form is refused: {reason}"),
    }
    assert_eq!(json::parse(&canonical).map(|again| json::canonical(&again)), Ok(canonical), "it is a fixed point");
}

pub fn bodies(data: &[u8]) {
    body::<SubmitTask>(data);
    body::<DeployAgent>(data);
    body::<RedriveTask>(data);
    body::<CreateSchedule>(data);
    body::<CreateToken>(data);
    body::<RotateToken>(data);
    body::<AuditFilter>(data);
    body::<SecretValue>(data);
}

/// What was accepted is accepted again as it is passed on.
fn body<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(first) = json::object::<T>(data) else { return };
    let Ok(printed) = serde_json::to_value(&first) else { panic!("a body cannot be printed") };
    match json::object::<T>(&json::canonical(&printed)) {
        Ok(second) => assert_eq!(serde_json::to_value(&second).ok(), Some(printed), "a body changed on its way"),
        Err(reason) => panic!("what was accepted is refused: {reason}"),
    }
}
