//! What is read from JSON is written as JSON that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_wire::json;

#[macro_use]
mod messages;

fn check<M: DeserializeOwned + Serialize>(document: &[u8]) {
    match json::decode::<M>(document) {
        Ok(message) => {
            let written = json::encode(&message).expect("what was read can be written");
            let again: M = json::decode(&written).expect("what was written can be read");
            assert_eq!(json::encode(&again).expect("again"), written);
        }
        Err(error) => {
            assert!(
                error.path.len() <= json::MAX_PATH_BYTES && error.message.len() <= json::MAX_MESSAGE_BYTES
            );
        }
    }
}

fuzz_target!(|document: &[u8]| for_each_message!(check, document));
