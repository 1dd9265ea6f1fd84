//! What is read as a stored event or snapshot of the matchmaker is stored so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_domain::machine::Record;
use sortie_domain::time::Timestamp;
use sortie_wire::cloud_event::matchmaker::{cloud_event, status_events};
use sortie_wire::stored::matchmaker::{decode_event, decode_snapshot, encode_event, encode_snapshot};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = decode_event(bytes) {
        let mut stored = Vec::new();
        encode_event(&event, &mut stored);
        assert_eq!(decode_event(&stored).as_ref(), Ok(&event));
        let record = Record { seq: 1, time: Timestamp::from_millis(u64::MAX), event };
        let _ = (cloud_event(&record, "/fuzz"), status_events(&record, "/fuzz"));
    }
    if let Ok(snapshot) = decode_snapshot(bytes) {
        let stored = encode_snapshot(&snapshot);
        assert_eq!(decode_snapshot(&stored).map(|again| encode_snapshot(&again)), Ok(stored));
    }
});
