//! Tokens minted by the C reference, renetcode and Lightyear: opened, and minted again byte for byte.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;
use sortie_tokens::{Dialect, Drawn, PrivateKey, Token, TokenSpec, mint, open, read_public};

struct Golden {
    file: String,
    dialect: Dialect,
    bytes: Vec<u8>,
    key: PrivateKey,
    token: Token,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contract/golden/netcode"))
}

fn goldens() -> Vec<Golden> {
    let text = std::fs::read_to_string(folder().join("tokens.json")).unwrap();
    let set: Value = serde_json::from_str(&text).unwrap();
    let goldens: Vec<_> = set["tokens"].as_array().unwrap().iter().map(|entry| golden(&set, entry)).collect();
    assert_eq!(goldens.len(), 6);
    goldens
}

fn golden(set: &Value, entry: &Value) -> Golden {
    let file = text(&entry["file"]).to_owned();
    let dialect: Dialect = file.split('-').next().unwrap().parse().unwrap();
    let bytes = std::fs::read(folder().join(&file)).unwrap();
    let spec = TokenSpec {
        protocol_id: hex_u64(&set["protocol_id"]),
        create_timestamp: entry["create"].as_u64().unwrap(),
        expire_timestamp: entry["expire"].as_u64().unwrap(),
        timeout_seconds: set["timeout_seconds"].as_i64().unwrap().try_into().unwrap(),
        client_id: hex_u64(&set["client_id"]),
        server_addresses: vec![address(entry, dialect)],
        user_data: std::array::from_fn(|i| i as u8),
    };
    let drawn = Drawn {
        nonce: bytes[37..61].try_into().unwrap(),
        client_to_server_key: hex(text(&entry["client_to_server_key"])).try_into().unwrap(),
        server_to_client_key: hex(text(&entry["server_to_client_key"])).try_into().unwrap(),
    };
    let key = text(&set["private_key"]).parse().unwrap();
    Golden { file, dialect, bytes, key, token: Token { spec, drawn } }
}

/// In the set, an IPv6 address is given as its octets in the token.
fn address(entry: &Value, dialect: Dialect) -> SocketAddr {
    let on_the_wire = text(&entry["address"]);
    let port = entry["port"].as_u64().unwrap().try_into().unwrap();
    let ip = on_the_wire.parse::<IpAddr>().unwrap_or_else(|_| {
        let octets: [u8; 16] = hex(on_the_wire).try_into().unwrap();
        let words = std::array::from_fn::<u16, 8, _>(|i| match dialect {
            Dialect::Standard => u16::from_le_bytes([octets[2 * i], octets[2 * i + 1]]),
            Dialect::Renet | Dialect::Lightyear => u16::from_be_bytes([octets[2 * i], octets[2 * i + 1]]),
        });
        assert_eq!(Ipv6Addr::from(words), Ipv6Addr::LOCALHOST);
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    });
    SocketAddr::new(ip, port)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn hex_u64(value: &Value) -> u64 {
    u64::from_str_radix(text(value).strip_prefix("0x").unwrap(), 16).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn each_token_opens_to_the_expected_content() {
    for golden in goldens() {
        let opened = open(&golden.bytes, golden.dialect, &golden.key);
        assert_eq!(opened.as_ref(), Ok(&golden.token), "{}", golden.file);
    }
}

#[test]
fn the_public_part_is_read_without_the_key() {
    for Golden { file, dialect, bytes, token: Token { spec, drawn }, .. } in goldens() {
        let public = read_public(&bytes, dialect).unwrap();
        assert_eq!(public.protocol_id, spec.protocol_id, "{file}");
        assert_eq!(public.create_timestamp, spec.create_timestamp, "{file}");
        assert_eq!(public.expire_timestamp, spec.expire_timestamp, "{file}");
        assert_eq!(public.timeout_seconds, spec.timeout_seconds, "{file}");
        assert_eq!(public.server_addresses, spec.server_addresses, "{file}");
        assert_eq!(public.drawn, drawn, "{file}");
    }
}

#[test]
fn minting_again_yields_the_same_bytes() {
    for golden in goldens() {
        let Token { spec, drawn } = &golden.token;
        let minted = mint(spec, drawn, golden.dialect, &golden.key).unwrap();
        assert!(minted == *golden.bytes, "{} differs", golden.file);
    }
}

#[test]
fn another_dialect_is_refused_or_finds_other_addresses() {
    for golden in goldens() {
        for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != golden.dialect) {
            let opened = open(&golden.bytes, dialect, &golden.key);
            let lightyear_involved = Dialect::Lightyear == dialect || Dialect::Lightyear == golden.dialect;
            let ipv4 = golden.token.spec.server_addresses[0].is_ipv4();
            match opened {
                Err(_) => assert!(lightyear_involved, "{} as {dialect}", golden.file),
                Ok(token) => {
                    assert!(!lightyear_involved, "{} as {dialect}", golden.file);
                    assert_eq!(token == golden.token, ipv4, "{} as {dialect}", golden.file);
                }
            }
        }
    }
}
