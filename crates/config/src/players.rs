//! How players sign in: which tokens are accepted, and where the keys are that they are checked with.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::NamingOthers;
use crate::parse;
use crate::secret::{self, MAX_SECRET_BYTES, Secret, SecretSource};
use crate::section::Section;

/// Size of a secret for HS256, in bytes; the minimum is that of RFC 7518, 3.2.
const SECRET_BYTES: RangeInclusive<usize> = 32..=MAX_SECRET_BYTES;
/// Maximum length of issuer and audience, in characters.
const MAX_NAME: usize = 1000;
/// Maximum difference between clocks.
const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// Which player tokens are accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlayersConfig {
    /// The required `iss`.
    pub issuer: String,
    /// The required `aud`, or one of its entries.
    pub audience: String,
    /// Tolerated difference between clocks; whole seconds.
    pub leeway: Duration,
    /// What they are checked with.
    pub keys: PlayerKeys,
}

/// What players may state in tickets that they start themselves, without a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlayerRightsConfig {
    /// Whether they may start them for others, too.
    pub may_name_others: NamingOthers,
    /// Whether they may set ratings, and other numbers that rules compare.
    pub may_rate_themselves: bool,
}

/// What player tokens are checked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlayerKeys {
    /// A secret for HS256, and its source.
    Secret(SecretSource, Secret),
    /// Public keys in this JWKS file; absolute.
    JwksFile(PathBuf),
    /// Public keys at this URL.
    JwksUrl(String),
}

/// What the section `players` says about their tickets.
pub(crate) fn rights(section: &Section<'_>) -> Option<PlayerRightsConfig> {
    let may_name_others =
        section.get("may_name_others", parse::choice(NamingOthers::NAMES, NamingOthers::by_name));
    let may_rate_themselves = section.get("may_rate_themselves", parse::switch);
    Some(PlayerRightsConfig { may_name_others: may_name_others?, may_rate_themselves: may_rate_themselves? })
}

/// The section `players`; `Some(None)` if players do not sign in.
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
                "is required if players sign in: a token for another service must not be accepted here",
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
        let secret = noted("secret_file", secret::from_file(&path, SECRET_BYTES))?;
        return Some(Some(PlayerKeys::Secret(SecretSource::File(path), secret)));
    }
    if let Some(name) = secret_env {
        let secret = noted("secret_env", secret::from_variable(section, &name, SECRET_BYTES))?;
        return Some(Some(PlayerKeys::Secret(SecretSource::Variable(name), secret)));
    }
    if let Some(url) = jwks_url {
        if parse::is_open_to_others(&url) {
            section.warn(
                "jwks_url",
                "is not https: anyone between here and there can give out keys of their own and sign in as any player",
            );
        }
        return Some(Some(PlayerKeys::JwksUrl(url)));
    }
    Some(jwks_file.map(PlayerKeys::JwksFile))
}
