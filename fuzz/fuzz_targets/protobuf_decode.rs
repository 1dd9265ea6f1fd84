//! Whatever a gRPC peer sends is a message that can be written as JSON, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use serde::Serialize;
use sortie_wire::json;

#[macro_use]
mod messages;

fn check<M: Message + Default + Serialize>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let _ = json::encode(&message);
        let again = M::decode(message.encode_to_vec().as_slice()).expect("what was written can be read");
        assert_eq!(again.encoded_len(), message.encoded_len());
    }
}

fuzz_target!(|bytes: &[u8]| for_each_message!(check, bytes));
