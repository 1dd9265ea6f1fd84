//! What holds for every token and for arbitrary bytes.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use proptest::array::{uniform24, uniform32};
use proptest::prelude::*;
use sortie_tokens::{
    Dialect, Drawn, MAX_SERVER_ADDRESSES, MintError, OpenError, PrivateKey, TOKEN_BYTES, Token, TokenSpec,
    USER_DATA_BYTES, mint, open, read_public, renet_framed,
};

const KEY: [u8; 32] = [7; 32];
const SEALED: RangeInclusive<usize> = 61..=1084;

fn dialects() -> impl Strategy<Value = Dialect> {
    proptest::sample::select(&Dialect::ALL)
}

fn addresses(count: RangeInclusive<usize>) -> impl Strategy<Value = Vec<SocketAddr>> {
    // Tokens have no scope id or flow label, so none is generated here.
    let address = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    proptest::collection::vec(address, count)
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (uniform24(any::<u8>()), uniform32(any::<u8>()), uniform32(any::<u8>())).prop_map(
        |(nonce, client_to_server_key, server_to_client_key)| Drawn {
            nonce,
            client_to_server_key,
            server_to_client_key,
        },
    )
}

fn tokens() -> impl Strategy<Value = Token> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<i32>());
    let user_data = proptest::collection::vec(any::<u8>(), USER_DATA_BYTES);
    (numbers, addresses(1..=MAX_SERVER_ADDRESSES), user_data, drawn()).prop_map(
        |((protocol_id, one, other, client_id, timeout_seconds), server_addresses, user_data, drawn)| Token {
            spec: TokenSpec {
                protocol_id,
                create_timestamp: one.min(other),
                expire_timestamp: one.max(other),
                timeout_seconds,
                client_id,
                server_addresses,
                user_data: user_data.try_into().unwrap(),
            },
            drawn,
        },
    )
}

fn token() -> Token {
    Token {
        spec: TokenSpec {
            protocol_id: 1,
            create_timestamp: 1_000,
            expire_timestamp: 1_030,
            timeout_seconds: 5,
            client_id: 42,
            server_addresses: vec!["127.0.0.1:40000".parse().unwrap()],
            user_data: [3; USER_DATA_BYTES],
        },
        drawn: Drawn::from_random(&std::array::from_fn(|i| i as u8)),
    }
}

fn minted(token: &Token, dialect: Dialect) -> [u8; TOKEN_BYTES] {
    mint(&token.spec, &token.drawn, dialect, &PrivateKey::new(KEY)).unwrap()
}

/// The token with `plain` (1008 bytes) as its private part, sealed with the right key.
fn resealed(mut token: [u8; TOKEN_BYTES], plain: &[u8]) -> [u8; TOKEN_BYTES] {
    let nonce = XNonce::try_from(&token[37..61]).unwrap();
    // Version and protocol id, then the expire timestamp: the same bytes as in the public part.
    let associated = [&token[..21], &token[29..37]].concat();
    let sealed = &mut token[SEALED];
    sealed[..1008].copy_from_slice(plain);
    let (plain, tag) = sealed.split_at_mut(1008);
    let cipher = XChaCha20Poly1305::new((&KEY).into());
    tag.copy_from_slice(&cipher.encrypt_inout_detached(&nonce, &associated, plain.into()).unwrap());
    token
}

proptest! {
    #[test]
    fn minted_tokens_survive_a_round_trip(token in tokens(), dialect in dialects(), key: [u8; 32]) {
        let key = PrivateKey::new(key);
        let bytes = mint(&token.spec, &token.drawn, dialect, &key).unwrap();
        prop_assert_eq!(open(&bytes, dialect, &key), Ok(token));
    }

    #[test]
    fn another_key_opens_nothing(token in tokens(), dialect in dialects(), bit in 0..256_usize) {
        let bytes = minted(&token, dialect);
        let mut other = KEY;
        other[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open(&bytes, dialect, &PrivateKey::new(other)), Err(OpenError::NotSealedWithKey));
    }

    #[test]
    fn an_altered_private_part_no_longer_opens(token in tokens(), dialect in dialects(), at in SEALED, bit in 0..8) {
        let mut bytes = minted(&token, dialect);
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(open(&bytes, dialect, &PrivateKey::new(KEY)), Err(OpenError::NotSealedWithKey));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_100)) {
        for dialect in Dialect::ALL {
            prop_assert!(open(&bytes, dialect, &PrivateKey::new(KEY)).is_err());
            prop_assert!(read_public(&bytes, dialect).is_err());
        }
    }

    #[test]
    fn a_hostile_private_part_sealed_with_the_right_key_is_refused_without_a_panic(
        token in tokens(),
        dialect in dialects(),
        start in proptest::collection::vec(any::<u8>(), 12),
        count in 0..40_u32,
        kinds in proptest::collection::vec(0..4_u8, 990),
    ) {
        let mut plain = start;
        plain.extend(if dialect == Dialect::Lightyear { count.to_be_bytes() } else { count.to_le_bytes() });
        plain.extend(kinds);
        plain.resize(1008, 0);
        let bytes = resealed(minted(&token, dialect), &plain);
        prop_assert!(open(&bytes, dialect, &PrivateKey::new(KEY)).is_err());
    }

    #[test]
    fn a_token_with_bytes_overwritten_never_panics(
        token in tokens(),
        dialect in dialects(),
        reader in dialects(),
        at in 0..TOKEN_BYTES,
        hostile in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut bytes = minted(&token, dialect);
        for (place, byte) in bytes[at..].iter_mut().zip(hostile) {
            *place = byte;
        }
        let _ = read_public(&bytes, reader);
        if let Ok(opened) = open(&bytes, reader, &PrivateKey::new(KEY)) {
            prop_assert_eq!(opened.spec.server_addresses.len(), token.spec.server_addresses.len());
        }
    }
}

#[test]
fn what_the_test_seals_is_opened() {
    let mut token = token();
    let bytes = minted(&token, Dialect::Standard);
    let mut plain = vec![0; 1008];
    plain[8..12].copy_from_slice(&5_i32.to_le_bytes());
    plain[12..16].copy_from_slice(&1_u32.to_le_bytes());
    plain[16..87].copy_from_slice(&bytes[1093..1164]);
    token.spec.client_id = 0;
    token.spec.user_data = [0; USER_DATA_BYTES];
    assert_eq!(open(&resealed(bytes, &plain), Dialect::Standard, &PrivateKey::new(KEY)), Ok(token));
}

#[test]
fn the_expiry_cannot_be_put_off() {
    for (dialect, last_byte) in [(Dialect::Standard, 29), (Dialect::Renet, 29), (Dialect::Lightyear, 36)] {
        let mut bytes = minted(&token(), dialect);
        bytes[last_byte] += 1;
        assert_eq!(read_public(&bytes, dialect).unwrap().expire_timestamp, 1_031);
        assert_eq!(open(&bytes, dialect, &PrivateKey::new(KEY)), Err(OpenError::NotSealedWithKey));
    }
}

#[test]
fn a_spec_that_breaks_the_format_is_refused() {
    let refusal = |change: fn(&mut TokenSpec)| {
        let mut token = token();
        change(&mut token.spec);
        mint(&token.spec, &token.drawn, Dialect::Standard, &PrivateKey::new(KEY)).unwrap_err()
    };
    assert_eq!(refusal(|spec| spec.server_addresses.clear()), MintError::NoServerAddress);
    assert_eq!(
        refusal(|spec| spec.server_addresses = vec![spec.server_addresses[0]; 33]),
        MintError::TooManyServerAddresses { count: 33 }
    );
    assert_eq!(refusal(|spec| spec.expire_timestamp = 999), MintError::ExpiresBeforeCreated);
}

#[test]
fn each_kind_of_malformed_token_has_its_error() {
    let address_count = 1085 + 4;
    let refusal = |at: usize, byte: u8| {
        let mut bytes = minted(&token(), Dialect::Standard);
        bytes[at] = byte;
        open(&bytes, Dialect::Standard, &PrivateKey::new(KEY)).unwrap_err()
    };
    assert_eq!(refusal(0, b'n'), OpenError::Version);
    assert_eq!(refusal(28, 1), OpenError::ExpiresBeforeCreated);
    assert_eq!(refusal(address_count, 0), OpenError::AddressCount { count: 0 });
    assert_eq!(refusal(address_count, 33), OpenError::AddressCount { count: 33 });
    assert_eq!(refusal(address_count + 4, 3), OpenError::AddressType { kind: 3 });
    assert_eq!(refusal(address_count + 5, 10), OpenError::PartsDisagree);
    for bytes in [0, 2047, 2049] {
        let refused = open(&vec![0; bytes], Dialect::Standard, &PrivateKey::new(KEY));
        assert_eq!(refused, Err(OpenError::WrongLength { bytes }));
    }
}

#[test]
fn the_other_byte_order_is_refused() {
    let key = PrivateKey::new(KEY);
    let swapped = OpenError::AddressCount { count: 1 << 24 };
    let bytes = minted(&token(), Dialect::Lightyear);
    assert_eq!(open(&bytes, Dialect::Standard, &key), Err(swapped));
    assert_eq!(open(&bytes, Dialect::Renet, &key), Err(swapped));
    for dialect in [Dialect::Standard, Dialect::Renet] {
        assert_eq!(open(&minted(&token(), dialect), Dialect::Lightyear, &key), Err(swapped));
    }
}

#[test]
fn random_bytes_are_cut_in_order() {
    let drawn = token().drawn;
    assert_eq!(drawn.nonce, std::array::from_fn::<u8, 24, _>(|i| i as u8));
    assert_eq!(drawn.client_to_server_key, std::array::from_fn::<u8, 32, _>(|i| i as u8 + 24));
    assert_eq!(drawn.server_to_client_key, std::array::from_fn::<u8, 32, _>(|i| i as u8 + 56));
}

#[test]
fn renet_framing_is_the_client_id_in_front() {
    let bytes = minted(&token(), Dialect::Renet);
    let framed = renet_framed(0x0102_0304_0506_0708, &bytes);
    assert_eq!(framed[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(framed[8..], bytes);
}

#[test]
fn debug_output_has_no_secrets() {
    let mut token = token();
    token.spec.user_data = [213; USER_DATA_BYTES];
    token.drawn = Drawn::from_random(&[214; Drawn::BYTES]);
    let shown = format!("{token:?} {:?}", read_public(&minted(&token, Dialect::Renet), Dialect::Renet));
    assert!(shown.contains("client_id: 42"), "{shown}");
    assert!(!shown.contains("213") && !shown.contains("214"), "{shown}");
}
