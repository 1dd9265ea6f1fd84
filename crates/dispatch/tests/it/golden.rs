//! The frames of the contract, byte by byte.

use sortie_dispatch::frame::{Frame, Head, Kind};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contract/golden/dispatch");

fn golden(name: &str) -> Vec<u8> {
    let digits = std::fs::read_to_string(format!("{FOLDER}/{name}.hex")).unwrap();
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn golden_bytes() {
    let device = |kind, payload| Frame { kind, address: "192.0.2.7", id: 258, payload };
    let cases = [
        ("opened", device(Kind::Opened, &b""[..])),
        ("closed", device(Kind::Closed, b"")),
        ("received", device(Kind::Received, b"hello")),
        ("write", device(Kind::Write, b"\x00\xff")),
        ("close", device(Kind::Close, b"")),
        (
            "received-ipv6-udp",
            Frame { kind: Kind::Received, address: "2001:db8::1", id: 53_000, payload: b"" },
        ),
    ];
    for (name, frame) in cases {
        let bytes = golden(name);
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        let mut written = Vec::new();
        frame.encode(&mut written);
        assert_eq!(written, bytes);
        let mut by_head = Vec::new();
        let size = frame.payload.len() as u32;
        Head::new(frame.ip().unwrap(), frame.id).encode(frame.kind, size, &mut by_head);
        by_head.extend_from_slice(frame.payload);
        assert_eq!(by_head, bytes);
    }
    assert_eq!(std::fs::read_dir(FOLDER).unwrap().count(), cases.len(), "a file that is not named here");
}
