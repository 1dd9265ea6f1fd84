//! Tokens are refused or taken apart, whatever they are; keys are refused without being shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_tokens::{Dialect, PrivateKey, TOKEN_BYTES, TokenSpec, USER_DATA_BYTES, mint, open, read_public};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = str::from_utf8(bytes)
        && let Err(error) = text.parse::<PrivateKey>()
    {
        assert!(text.len() < 40 || !error.to_string().contains(text));
    }
    // Most inputs are too short to be a token by themselves.
    let mut padded = bytes.to_vec();
    padded.resize(TOKEN_BYTES, 0);
    let key = PrivateKey::new([7; 32]);
    for dialect in Dialect::ALL {
        assert!(open(bytes, dialect, &key).is_err(), "sealed without the key");
        let Ok(public) = read_public(&padded, dialect) else { continue };
        let spec = TokenSpec {
            protocol_id: public.protocol_id,
            create_timestamp: public.create_timestamp,
            expire_timestamp: public.expire_timestamp,
            timeout_seconds: public.timeout_seconds,
            client_id: 1,
            server_addresses: public.server_addresses.clone(),
            user_data: [0; USER_DATA_BYTES],
        };
        let minted = mint(&spec, &public.drawn, dialect, &key).expect("what was read keeps the rules");
        let opened = open(&minted, dialect, &key).expect("what was minted opens");
        assert_eq!((opened.spec, opened.drawn), (spec, public.drawn));
    }
});
