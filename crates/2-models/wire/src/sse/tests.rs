use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
    let mut scanner = Scanner::default();
    let mut frames = Vec::new();
    for chunk in chunks {
        scanner.push(chunk);
        while let Some(frame) = scanner.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    frames.extend(scanner.end().unwrap());
    frames
}

fn check(text: &str, expected: &[(Option<&str>, &str)]) {
    let found = frames(&[text.as_bytes()]);
    let found: Vec<_> = found
        .iter()
        .map(|frame| {
            (
                frame.event.as_deref().map(|event| std::str::from_utf8(event).unwrap()),
                std::str::from_utf8(&frame.data).unwrap(),
            )
        })
        .collect();
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn lines_are_read_as_the_standard_says() {
    check("data: a\n\ndata:b\n\n", &[(None, "a"), (None, "b")]);
    check("event: ping\r\ndata: {}\r\n\r\n", &[(Some("ping"), "{}")]);
    check("data: a\rdata: b\r\rdata: c\r\r", &[(None, "a\nb"), (None, "c")]);
    check(": heartbeat\n\n", &[(None, "")]);
    check("data\ndata:  two\nid: 7\nretry: 3\n\n", &[(None, "\n two")]);
    check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[(None, "a"), (None, "")]);
    check("data: x:y\n\ndata: torn", &[(None, "x:y"), (None, "torn")]);
    check("\n\n", &[(None, ""), (None, "")]);
}

#[test]
fn a_frame_above_the_limit_stops_the_stream() {
    let mut scanner = Scanner::new(16);
    scanner.push(b"data: 0123456789abcdef");
    assert_eq!(scanner.next_frame(), Err(TooLong { limit: 16 }));
    assert_eq!(scanner.next_frame(), Err(TooLong { limit: 16 }), "and stays stopped");
    let mut scanner = Scanner::new(16);
    scanner.push(b"data: 0123456789abcdef\n\ndata: a\n\n");
    assert_eq!(scanner.next_frame(), Err(TooLong { limit: 16 }));
    let mut scanner = Scanner::new(16);
    scanner.push(b"data: a\n\ndata: b\n\ndata: c\n\n");
    assert_eq!(scanner.next_frame().unwrap().unwrap().data, "a", "the limit is one frame's");
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("data:"),
        Just("data: "),
        Just("event: "),
        Just(": "),
        Just("\n"),
        Just("\n\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\r\n\r\n"),
        Just("é"),
        Just("\u{1f600}"),
        Just("a:b"),
        Just(" "),
        Just("\u{feff}"),
        Just("[DONE]"),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn every_cut_gives_the_same_frames(bytes in stream(), cuts in proptest::collection::vec(0_usize..200, 0..20)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(bytes.len());
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let whole = frames(&[&bytes]);
        prop_assert_eq!(&frames(&chunks), &whole);
        prop_assert_eq!(&frames(&single), &whole);
        let raw: Vec<u8> = whole.iter().flat_map(|frame| frame.raw.to_vec()).collect();
        prop_assert_eq!(raw, bytes);
    }
}
