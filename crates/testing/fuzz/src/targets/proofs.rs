//! What the verifier of the audit log reads: notes, checkpoints, records, frontiers, segments.

use std::fs;

use agentos_proof::{Frontier, SigningKey, VerifierKey, checkpoint as form, leaf, note, source::segment as file};

use super::text;
use crate::seeds::{LOG, LOG_SEED, LOG_SIZE, log_key};

/// A checkpoint that verifies is the one that was signed.
pub fn checkpoint(data: &[u8]) {
    let Some(input) = text(data) else { return };
    if let Ok(other) = input.parse::<VerifierKey>() {
        assert_eq!(other.to_string().parse::<VerifierKey>().map(|key| key.to_string()), Ok(other.to_string()));
    }
    let key = log_key();
    let origin = form::origin(LOG);
    let _ = note::open(input, &key);
    if let Ok(found) = form::parse_and_verify(input, &key, &origin) {
        assert_eq!((found.origin.as_str(), found.size), (origin.as_str(), LOG_SIZE), "nobody has signed this");
        let again = form::sign(&SigningKey::from_bytes(&LOG_SEED), &origin, found.size, &found.root);
        let signed = again.split("\n\n").next();
        assert_eq!(input.split("\n\n").next(), signed, "one checkpoint has one spelling");
    }
}

/// The body of a record; or, from the second byte, a frontier.
pub fn record(data: &[u8]) {
    if let Some((0, bytes)) = data.split_first().map(|(first, bytes)| (*first, bytes)) {
        let Ok(frontier) = Frontier::from_bytes(bytes) else { return };
        assert_eq!(frontier.to_bytes(), bytes, "a frontier has one spelling");
        let _ = (frontier.root(), frontier.last_leaf());
        return;
    }
    let Ok(record) = leaf::decode(data) else { return };
    // Larger than its limit when written out is refused, not cut.
    let Ok((body, hash)) = leaf::encode(&record.log, record.seq, &record.prev, &record.event) else { return };
    match leaf::decode(&body) {
        Ok(again) => assert_eq!(again.event, record.event, "a record means the same"),
        Err(fault) => panic!("what was encoded is refused: {fault}"),
    }
    let again = leaf::decode(&body).and_then(|again| leaf::encode(&again.log, again.seq, &again.prev, &again.event));
    assert_eq!(again, Ok((body, hash)), "the encoding is a fixed point");
}

/// A segment that verifies has the records that were signed, and no more.
pub fn segment(data: &[u8]) {
    // The reader takes files, because a segment may be larger than memory.
    let Ok(place) = tempfile::NamedTempFile::new() else { panic!("no temporary file") };
    if fs::write(place.path(), data).is_err() {
        panic!("the temporary file cannot be written");
    }
    if let Ok(report) = file::verify_file(place.path(), &log_key()) {
        assert!(report.size <= LOG_SIZE && report.records <= LOG_SIZE, "nobody has signed this: {report:?}");
    }
}
