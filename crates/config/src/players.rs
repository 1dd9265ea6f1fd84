//! How players sign in: which tokens are taken, and where the keys are that they are checked with.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::parse;
use crate::section::Section;

/// Largest file with a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 4096;
/// Least bytes of a secret for HS256 (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// Longest issuer and audience, in characters.
const MAX_NAME: usize = 1000;
/// Most that clocks may differ by.
const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// Which player tokens are taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlayersConfig {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// By how much clocks may differ; whole seconds.
    pub leeway: Duration,
    /// What they are checked with.
    pub keys: PlayerKeys,
}

/// What player tokens are checked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlayerKeys {
    /// A secret for HS256, and where it came from.
    Secret(SecretSource, Secret),
    /// Public keys in this JWKS file; absolute.
    JwksFile(PathBuf),
    /// Public keys at this URL.
    JwksUrl(String),
}

/// Where a secret came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    /// This file; absolute.
    File(PathBuf),
    /// The environment variable of this name.
    Variable(String),
}

/// A secret. Never shows in `Debug`; its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The secret itself.
    #[must_use]
    pub const fn bytes(&self) -> &Zeroizing<Vec<u8>> {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The section `players`; `Some(None)` where players do not sign in.
pub(crate) fn read(section: &Section<'_>) -> Option<Option<PlayersConfig>> {
    let name = |key| section.optional(key, named);
    let (issuer, audience) = (name("issuer"), name("audience"));
    let leeway = section.get("leeway", |value| {
        let leeway = parse::duration(Duration::ZERO..=MAX_LEEWAY)(value)?;
        if leeway.as_secs() * 1000 == leeway.as_millis() as u64 {
            Ok(leeway)
        } else {
            Err("must be whole seconds".to_owned())
        }
    });
    let keys = keys(section);
    let (issuer, audience, leeway, keys) = (issuer?, audience?, leeway?, keys?);
    if issuer.is_none() && audience.is_none() && keys.is_none() {
        return Some(None);
    }
    for (key, given) in [("issuer", issuer.is_some()), ("audience", audience.is_some())] {
        if !given {
            section.problem(
                key,
                "is required where players sign in: a token for somebody else must not be good here",
            );
        }
    }
    if keys.is_none() {
        section.refuse(
            "needs keys to check tokens with: one of `secret_file`, `secret_env`, `jwks_file`, `jwks_url`",
        );
    }
    Some(Some(PlayersConfig { issuer: issuer?, audience: audience?, leeway, keys: keys? }))
}

fn named(value: &serde_json::Value) -> Result<String, String> {
    parse::characters(1..=MAX_NAME, |character| !character.is_control(), "printable characters")(value)
}

fn keys(section: &Section<'_>) -> Option<Option<PlayerKeys>> {
    let secret_file = section.optional_path("secret_file");
    let secret_env = section.optional("secret_env", parse::variable_name);
    let jwks_file = section.optional_path("jwks_file");
    let jwks_url = section.optional("jwks_url", parse::fetched_url);
    let (secret_file, secret_env, jwks_file, jwks_url) = (secret_file?, secret_env?, jwks_file?, jwks_url?);
    let given = [
        ("secret_file", secret_file.is_some()),
        ("secret_env", secret_env.is_some()),
        ("jwks_file", jwks_file.is_some()),
        ("jwks_url", jwks_url.is_some()),
    ];
    let given: Vec<_> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    if let [first, second, ..] = given[..] {
        section.problem(second, format!("is given together with `{first}`; keep one of them"));
        return None;
    }
    let noted =
        |key, secret: Result<Secret, String>| secret.map_err(|problem| section.problem(key, problem)).ok();
    if let Some(path) = secret_file {
        let secret = noted("secret_file", from_file(&path))?;
        return Some(Some(PlayerKeys::Secret(SecretSource::File(path), secret)));
    }
    if let Some(name) = secret_env {
        let text =
            section.variable(&name).ok_or_else(|| format!("names the variable {name}, which is not set"));
        let secret = noted("secret_env", text.and_then(|text| secret(text.as_bytes())))?;
        return Some(Some(PlayerKeys::Secret(SecretSource::Variable(name), secret)));
    }
    if let Some(url) = jwks_url {
        if parse::is_open_to_others(&url) {
            section.warn(
                "jwks_url",
                "is no https: whoever is between here and there can give out keys of their own and sign in as any player",
            );
        }
        return Some(Some(PlayerKeys::JwksUrl(url)));
    }
    Some(jwks_file.map(PlayerKeys::JwksFile))
}

fn from_file(path: &Path) -> Result<Secret, String> {
    let file = File::open(path).map_err(|error| format!("names a file that cannot be opened: {error}"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("names a file that cannot be read: {error}"))?;
    secret(&bytes)
}

/// The bytes as they stand, without a line's end.
fn secret(bytes: &[u8]) -> Result<Secret, String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.len() < MIN_SECRET_BYTES || bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!(
            "leads to a secret of {} bytes: it must have {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} (openssl rand -hex 32)",
            bytes.len()
        ));
    }
    Ok(Secret::of(bytes))
}
