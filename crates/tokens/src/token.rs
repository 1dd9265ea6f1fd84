//! Minting, opening and reading tokens.
//!
//! | bytes | what |
//! |---|---|
//! | 0–12 | `NETCODE 1.02` and a zero |
//! | 13–20 | protocol id |
//! | 21–28 | create timestamp |
//! | 29–36 | expire timestamp |
//! | 37–60 | nonce |
//! | 61–1084 | private part, sealed: 1008 bytes and a tag of 16 |
//! | 1085– | timeout, server addresses, both session keys, then zeros up to 2048 |
//!
//! The private part holds the client id, then the same timeout, addresses and keys again, then the user data. It is
//! sealed with XChaCha20-Poly1305; version, protocol id and expire timestamp are associated data, so that a client
//! cannot prolong its token.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

use crate::codec::{MAX_ADDRESS_BYTES, Reader, Writer};
use crate::dialect::Dialect;
use crate::key::{KEY_BYTES, PrivateKey};

/// Length of a token as a client receives it, in bytes.
pub const TOKEN_BYTES: usize = 2048;
/// Length of a token in renet's own framing, in bytes.
pub const RENET_FRAMED_BYTES: usize = CLIENT_ID_BYTES + TOKEN_BYTES;
/// Length of the nonce, in bytes.
pub const NONCE_BYTES: usize = 24;
/// Length of the user data, in bytes.
pub const USER_DATA_BYTES: usize = 256;
/// Maximum number of server addresses in one token.
pub const MAX_SERVER_ADDRESSES: usize = 32;

const VERSION: &[u8; 13] = b"NETCODE 1.02\0";
const CLIENT_ID_BYTES: usize = 8;
const PRIVATE_AT: usize = VERSION.len() + 3 * 8 + NONCE_BYTES;
const PLAIN_BYTES: usize = 1008;
const TAG_BYTES: usize = 16;
const TAG_AT: usize = PRIVATE_AT + PLAIN_BYTES;
const SHARED_AT: usize = TAG_AT + TAG_BYTES;
const ASSOCIATED_BYTES: usize = VERSION.len() + 2 * 8;

/// Maximum length of what is in both parts, in bytes: timeout, address count, addresses, session keys.
const MAX_SHARED_BYTES: usize = 4 + 4 + MAX_SERVER_ADDRESSES * MAX_ADDRESS_BYTES + 2 * KEY_BYTES;

// No token with valid addresses can run out of room.
const _: () = assert!(CLIENT_ID_BYTES + MAX_SHARED_BYTES + USER_DATA_BYTES <= PLAIN_BYTES);
const _: () = assert!(SHARED_AT + MAX_SHARED_BYTES <= TOKEN_BYTES);

/// The chosen part of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSpec {
    /// Game and version: a server refuses tokens with another protocol id.
    pub protocol_id: u64,
    /// When it was created, in seconds since the Unix epoch.
    pub create_timestamp: u64,
    /// When it expires, in seconds since the Unix epoch. Not before `create_timestamp`.
    pub expire_timestamp: u64,
    /// Seconds without a packet after which each side gives up the connection; negative: never.
    pub timeout_seconds: i32,
    /// Identifies the client to the server; unique among connected clients.
    pub client_id: u64,
    /// Addresses of the server, in the order to try: 1 to [`MAX_SERVER_ADDRESSES`]. A server accepts the token only if
    /// one of these is its own. The scope id and flow label of an IPv6 address are not part of a token.
    pub server_addresses: Vec<SocketAddr>,
    /// For the server; the client cannot read it. Not shown in `Debug` output.
    pub user_data: [u8; USER_DATA_BYTES],
}

impl fmt::Debug for TokenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSpec")
            .field("protocol_id", &self.protocol_id)
            .field("create_timestamp", &self.create_timestamp)
            .field("expire_timestamp", &self.expire_timestamp)
            .field("timeout_seconds", &self.timeout_seconds)
            .field("client_id", &self.client_id)
            .field("server_addresses", &self.server_addresses)
            .finish_non_exhaustive()
    }
}

/// The random part of a token, from a cryptographic random number generator and for this token only: two tokens sealed
/// with the same key and nonce reveal their content. `Debug` output shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Drawn {
    /// Used only once with a private key.
    pub nonce: [u8; NONCE_BYTES],
    /// Encrypts what the client sends.
    pub client_to_server_key: [u8; KEY_BYTES],
    /// Encrypts what the server sends.
    pub server_to_client_key: [u8; KEY_BYTES],
}

impl Drawn {
    /// Number of random bytes per token.
    pub const BYTES: usize = NONCE_BYTES + 2 * KEY_BYTES;

    /// Splits random bytes into the nonce and the session keys.
    #[must_use]
    pub fn from_random(random: &[u8; Self::BYTES]) -> Self {
        let mut drawn = Self { nonce: [0; _], client_to_server_key: [0; _], server_to_client_key: [0; _] };
        let (nonce, keys) = random.split_at(NONCE_BYTES);
        let (client_to_server, server_to_client) = keys.split_at(KEY_BYTES);
        drawn.nonce.copy_from_slice(nonce);
        drawn.client_to_server_key.copy_from_slice(client_to_server);
        drawn.server_to_client_key.copy_from_slice(server_to_client);
        drawn
    }
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drawn(redacted)")
    }
}

/// Everything in a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// The chosen part.
    pub spec: TokenSpec,
    /// The random part.
    pub drawn: Drawn,
}

/// What a client can read of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicPart {
    /// See [`TokenSpec::protocol_id`].
    pub protocol_id: u64,
    /// See [`TokenSpec::create_timestamp`].
    pub create_timestamp: u64,
    /// See [`TokenSpec::expire_timestamp`].
    pub expire_timestamp: u64,
    /// See [`TokenSpec::timeout_seconds`].
    pub timeout_seconds: i32,
    /// See [`TokenSpec::server_addresses`].
    pub server_addresses: Vec<SocketAddr>,
    /// Nonce and session keys.
    pub drawn: Drawn,
}

/// Mints a token of `dialect`: [`TOKEN_BYTES`] bytes, ready to be handed to a client, e.g. as base64.
///
/// A renet token has the same form here, without renet's own framing: see [`renet_framed`].
///
/// # Errors
/// [`MintError`] if `spec` breaks a rule of the format.
pub fn mint(
    spec: &TokenSpec,
    drawn: &Drawn,
    dialect: Dialect,
    key: &PrivateKey,
) -> Result<[u8; TOKEN_BYTES], MintError> {
    check(spec)?;
    let mut token = [0; TOKEN_BYTES];
    let (head, rest) = token.split_at_mut(PRIVATE_AT);
    let (plain, rest) = rest.split_at_mut(PLAIN_BYTES);
    let (tag, tail) = rest.split_at_mut(TAG_BYTES);

    let mut writer = Writer::new(head, dialect);
    writer.bytes(VERSION);
    writer.u64(spec.protocol_id);
    writer.u64(spec.create_timestamp);
    writer.u64(spec.expire_timestamp);
    writer.bytes(&drawn.nonce);

    let mut writer = Writer::new(plain, dialect);
    writer.u64(spec.client_id);
    write_shared(&mut writer, spec, drawn);
    writer.bytes(&spec.user_data);

    write_shared(&mut Writer::new(tail, dialect), spec, drawn);

    let sealed = cipher(key).encrypt_inout_detached(
        &XNonce::from(drawn.nonce),
        &associated_data(spec.protocol_id, spec.expire_timestamp, dialect),
        plain.into(),
    );
    tag.copy_from_slice(&sealed.map_err(|_| MintError::Seal)?);
    Ok(token)
}

/// Decodes a token and opens its private part.
///
/// Does not check whether the token has expired. Standard and renet tokens with IPv6 addresses cannot be told apart:
/// opened in the other dialect, the two bytes of each word of an address are swapped.
///
/// # Errors
/// [`OpenError`] unless the token is well-formed, of this dialect and sealed with this key.
pub fn open(bytes: &[u8], dialect: Dialect, key: &PrivateKey) -> Result<Token, OpenError> {
    let PublicPart {
        protocol_id,
        create_timestamp,
        expire_timestamp,
        timeout_seconds,
        server_addresses,
        drawn,
    } = read_public(bytes, dialect)?;
    let mut plain: [u8; PLAIN_BYTES] = chunk_at(bytes, PRIVATE_AT)?;
    let tag: [u8; TAG_BYTES] = chunk_at(bytes, TAG_AT)?;
    cipher(key)
        .decrypt_inout_detached(
            &XNonce::from(drawn.nonce),
            &associated_data(protocol_id, expire_timestamp, dialect),
            plain.as_mut_slice().into(),
            &Tag::from(tag),
        )
        .map_err(|_| OpenError::NotSealedWithKey)?;

    let mut reader = Reader::new(&plain, dialect);
    let client_id = reader.u64()?;
    let shared = Shared::read(&mut reader)?;
    let user_data = reader.bytes()?;
    let agree = shared.timeout_seconds == timeout_seconds
        && shared.server_addresses == server_addresses
        && shared.client_to_server_key == drawn.client_to_server_key
        && shared.server_to_client_key == drawn.server_to_client_key;
    if !agree {
        return Err(OpenError::PartsDisagree);
    }
    let spec = TokenSpec {
        protocol_id,
        create_timestamp,
        expire_timestamp,
        timeout_seconds,
        client_id,
        server_addresses,
        user_data,
    };
    Ok(Token { spec, drawn })
}

/// Decodes what is readable without the private key. None of it is authenticated.
///
/// # Errors
/// [`OpenError`] unless the token is well-formed and of this dialect (as far as the public part can tell).
pub fn read_public(bytes: &[u8], dialect: Dialect) -> Result<PublicPart, OpenError> {
    let bytes: &[u8; TOKEN_BYTES] =
        bytes.try_into().map_err(|_| OpenError::WrongLength { bytes: bytes.len() })?;
    let mut reader = Reader::new(bytes, dialect);
    if reader.bytes()? != *VERSION {
        return Err(OpenError::Version);
    }
    let protocol_id = reader.u64()?;
    let create_timestamp = reader.u64()?;
    let expire_timestamp = reader.u64()?;
    let nonce = reader.bytes()?;
    let shared = Shared::read(&mut Reader::new(&bytes[SHARED_AT..], dialect))?;
    // After the address count, which always reveals the wrong byte order; the timestamps do so only by chance.
    if expire_timestamp < create_timestamp {
        return Err(OpenError::ExpiresBeforeCreated);
    }
    let Shared { timeout_seconds, server_addresses, client_to_server_key, server_to_client_key } = shared;
    let drawn = Drawn { nonce, client_to_server_key, server_to_client_key };
    Ok(PublicPart {
        protocol_id,
        create_timestamp,
        expire_timestamp,
        timeout_seconds,
        server_addresses,
        drawn,
    })
}

/// A renet token as renet's own code passes it around: the client id (little-endian u64), then the token.
///
/// In the standard, the client id is only in the private part, but renetcode's `ConnectToken::read` expects one in
/// front, so that the client knows its own; the server uses the one in the private part. So a renet client that got the
/// [`TOKEN_BYTES`] form must be given this form instead. `client_id` is the one that the token was minted with. The
/// zeros at the end, which renet itself does not write, do not disturb its reader.
#[must_use]
pub fn renet_framed(client_id: u64, token: &[u8; TOKEN_BYTES]) -> [u8; RENET_FRAMED_BYTES] {
    let mut framed = [0; RENET_FRAMED_BYTES];
    let (prefix, rest) = framed.split_at_mut(CLIENT_ID_BYTES);
    prefix.copy_from_slice(&client_id.to_le_bytes());
    rest.copy_from_slice(token);
    framed
}

fn check(spec: &TokenSpec) -> Result<(), MintError> {
    match spec.server_addresses.len() {
        0 => return Err(MintError::NoServerAddress),
        1..=MAX_SERVER_ADDRESSES => {}
        count => return Err(MintError::TooManyServerAddresses { count }),
    }
    if spec.expire_timestamp < spec.create_timestamp {
        return Err(MintError::ExpiresBeforeCreated);
    }
    Ok(())
}

fn cipher(key: &PrivateKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

fn associated_data(protocol_id: u64, expire_timestamp: u64, dialect: Dialect) -> [u8; ASSOCIATED_BYTES] {
    let mut data = [0; ASSOCIATED_BYTES];
    let mut writer = Writer::new(&mut data, dialect);
    writer.bytes(VERSION);
    writer.u64(protocol_id);
    writer.u64(expire_timestamp);
    data
}

fn write_shared(writer: &mut Writer<'_>, spec: &TokenSpec, drawn: &Drawn) {
    writer.i32(spec.timeout_seconds);
    writer.addresses(&spec.server_addresses);
    writer.bytes(&drawn.client_to_server_key);
    writer.bytes(&drawn.server_to_client_key);
}

/// The content of both parts of a token.
struct Shared {
    timeout_seconds: i32,
    server_addresses: Vec<SocketAddr>,
    client_to_server_key: [u8; KEY_BYTES],
    server_to_client_key: [u8; KEY_BYTES],
}

impl Shared {
    fn read(reader: &mut Reader<'_>) -> Result<Self, OpenError> {
        Ok(Self {
            timeout_seconds: reader.i32()?,
            server_addresses: reader.addresses()?,
            client_to_server_key: reader.bytes()?,
            server_to_client_key: reader.bytes()?,
        })
    }
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], OpenError> {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
    chunk.copied().ok_or(OpenError::WrongLength { bytes: bytes.len() })
}

/// Why no token was minted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MintError {
    /// It has no server address.
    NoServerAddress,
    /// It has more than [`MAX_SERVER_ADDRESSES`] server addresses.
    TooManyServerAddresses {
        /// Their number.
        count: usize,
    },
    /// Its expire timestamp is before its create timestamp.
    ExpiresBeforeCreated,
    /// The cipher refused the private part. Not expected, because its length is fixed.
    Seal,
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServerAddress => f.write_str("a connect token needs at least one server address"),
            Self::TooManyServerAddresses { count } => write!(
                f,
                "a connect token takes at most {MAX_SERVER_ADDRESSES} server addresses, {count} were given"
            ),
            Self::ExpiresBeforeCreated => {
                f.write_str("a connect token must not expire before it was created")
            }
            Self::Seal => f.write_str("the cipher refused to seal the connect token"),
        }
    }
}

impl core::error::Error for MintError {}

/// Why bytes are not a token of a dialect and key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// They are not [`TOKEN_BYTES`] bytes.
    WrongLength {
        /// Their number.
        bytes: usize,
    },
    /// They do not start with the version, `NETCODE 1.02`.
    Version,
    /// The expire timestamp is before the create timestamp.
    ExpiresBeforeCreated,
    /// The number of addresses is not 1 to [`MAX_SERVER_ADDRESSES`]: malformed, or of another dialect.
    AddressCount {
        /// The number as read in this dialect.
        count: u32,
    },
    /// An address is neither IPv4 (1) nor IPv6 (2).
    AddressType {
        /// The type found.
        kind: u8,
    },
    /// The private part was sealed with another key or altered afterwards, or the protocol id or the expire
    /// timestamp was altered.
    NotSealedWithKey,
    /// Timeout, server addresses or session keys differ between the public and the private part. The C reference can
    /// mint tokens that name different addresses to the server and the client; [`mint`] never does.
    PartsDisagree,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength { bytes } => {
                write!(f, "a connect token has {TOKEN_BYTES} bytes, not {bytes}")
            }
            Self::Version => f.write_str("this is not a connect token: it does not start with NETCODE 1.02"),
            Self::ExpiresBeforeCreated => f.write_str("the connect token expires before it was created: mint a new one"),
            Self::AddressCount { count } => write!(
                f,
                "the connect token says it has {count} server addresses, 1 to {MAX_SERVER_ADDRESSES} are \
                 allowed: it is malformed or of another dialect"
            ),
            Self::AddressType { kind } => write!(
                f,
                "the connect token has a server address of type {kind}, allowed are 1 (IPv4) and 2 (IPv6)"
            ),
            Self::NotSealedWithKey => f.write_str(
                "the connect token was sealed with another private key, or altered: check the key of the fleet",
            ),
            Self::PartsDisagree => {
                f.write_str("the public and the private part of the connect token disagree: mint a new one")
            }
        }
    }
}

impl core::error::Error for OpenError {}
