//! Any message is one frame, which is written as it was read, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_dispatch::frame::{Frame, Head, MAX_ADDRESS_BYTES, MAX_HEAD_BYTES, into_payload};

fuzz_target!(|message: &[u8]| {
    let Ok(frame) = Frame::decode(message) else { return };
    assert!(frame.address.len() <= MAX_ADDRESS_BYTES);
    let mut again = Vec::new();
    frame.encode(&mut again);
    assert_eq!(again, message);
    let payload = into_payload(message.to_vec().into(), frame.payload.len());
    assert_eq!(payload, frame.payload);
    // Where the address is one, the head that the dispatcher would write says the same.
    let Some(ip) = frame.ip() else { return };
    let head = Head::new(ip, frame.id);
    assert!(head.len() <= MAX_HEAD_BYTES);
    let mut written = Vec::new();
    head.encode(frame.kind, frame.payload.len() as u32, &mut written);
    written.extend_from_slice(frame.payload);
    let reread = Frame::decode(&written).expect("what is written is read");
    assert_eq!((reread.ip(), reread.id, reread.payload), (Some(ip), frame.id, frame.payload));
});
