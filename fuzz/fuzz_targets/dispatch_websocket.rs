//! What a driver's websocket says does not depend on how it comes in pieces, and has its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_dispatch::websocket::{Event, Messages, Violation};

const MAX_BYTES: usize = 1_000;

fn read(bytes: &[u8], step: usize) -> (Vec<Event>, Option<Violation>) {
    let (mut messages, mut buffer) = (Messages::new(MAX_BYTES), Default::default());
    let mut events = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        bytes::BytesMut::extend_from_slice(&mut buffer, piece);
        loop {
            match messages.next(&mut buffer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        // A head and one message at most have to be kept.
        assert!(messages.needed() <= MAX_BYTES + 14);
    }
    (events, None)
}

fuzz_target!(|bytes: &[u8]| {
    let together = read(bytes, bytes.len());
    assert_eq!(read(bytes, 1), together);
    assert_eq!(read(bytes, 7), together);
    for event in &together.0 {
        match event {
            Event::Message(message) => assert!(message.len() <= MAX_BYTES),
            Event::Ping(payload) => assert!(payload.len() <= 125),
            Event::Pong | Event::Close(_) => {}
        }
    }
});
