//! Single values: what each kind accepts, and the message if it does not.
//!
//! Values are quoted only if they cannot be a secret.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{self, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde_json::Value;
use sortie_config_file::kind_of;
use sortie_domain::properties::Properties;
use url::Url;

use crate::keys;

/// Maximum length of a text that is quoted, in characters.
const MAX_QUOTED: usize = 80;
/// Maximum length of the text of any key, in bytes.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Maximum length of a variable's name, in characters.
const MAX_VARIABLE_NAME: usize = 128;

/// One second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// One hour.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// 24 hours.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// 366 days.
pub(crate) const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// The value, for people, if it is short enough.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => kind_of(other).to_owned(),
    }
}

/// The text in quotes, control characters escaped, cut if it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `path.key`, with quotes around a key that TOML would quote.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.len() <= MAX_QUOTED && key.bytes().all(bare) {
        keys::below(path, key)
    } else {
        keys::below(path, &quoted(key))
    }
}

/// Any text; the error for another value does not reveal it.
pub(crate) fn text(value: &Value) -> Result<&str, String> {
    let text = value.as_str().ok_or_else(|| format!("must be text in quotes, is {}", kind_of(value)))?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("has {} bytes, at most {MAX_TEXT_BYTES} are allowed", text.len()));
    }
    if text.contains('\0') {
        return Err("must not hold a NUL character".to_owned());
    }
    Ok(text)
}

/// Text of `length` characters that all are `allowed`.
pub(crate) fn characters(
    length: RangeInclusive<usize>,
    allowed: fn(char) -> bool,
    what: &'static str,
) -> impl Fn(&Value) -> Result<String, String> {
    move |value| {
        let text = text(value)?;
        let (least, most) = (length.start(), length.end());
        if !length.contains(&text.chars().count()) {
            return Err(format!("must have {least} to {most} characters, is {}", quoted(text)));
        }
        match text.chars().find(|&character| !allowed(character)) {
            Some(wrong) => Err(format!("must be of {what}; {wrong:?} in {} is not", quoted(text))),
            None => Ok(text.to_owned()),
        }
    }
}

/// `true` or `false`.
pub(crate) fn switch(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, is {}", shown(value)))
}

/// A whole number within `range`.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Value) -> Result<T, String>
where
    T: Copy + Display + Into<i128> + TryFrom<i128>,
{
    move |value| {
        let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        let within =
            number.filter(|&number| ((*range.start()).into()..=(*range.end()).into()).contains(&number));
        within.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            format!("must be an integer from {} to {}, is {}", range.start(), range.end(), shown(value))
        })
    }
}

/// A number within `range`.
pub(crate) fn number(range: RangeInclusive<f64>) -> impl Fn(&Value) -> Result<f64, String> {
    move |value| {
        value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| {
            format!("must be a number from {} to {}, is {}", range.start(), range.end(), shown(value))
        })
    }
}

/// The name of an environment variable. A wrong value may be a secret and is not quoted.
pub(crate) fn variable_name(value: &Value) -> Result<String, String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '_';
    characters(1..=MAX_VARIABLE_NAME, allowed, "letters, digits and `_`")(value)
        .map_err(|_| "must be the name of an environment variable".to_owned())
}

/// 64 bits as an integer, or as text: decimal or `0x…`.
pub(crate) fn identifier(value: &Value) -> Result<u64, String> {
    let parsed = match value {
        Value::String(text) => {
            match text.trim().strip_prefix("0x").or_else(|| text.trim().strip_prefix("0X")) {
                Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
                Some(_) => None,
                None => text.trim().parse().ok(),
            }
        }
        other => other.as_u64(),
    };
    let right = "must be an integer from 0 to 18446744073709551615, or text like \"0x1122334455667788\"";
    parsed.ok_or_else(|| format!("{right}, is {}", shown(value)))
}

/// A duration within `range`.
pub(crate) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Result<Duration, String> {
    move |value| {
        let duration = any_duration(value)?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
        Err(format!("must be from {least} to {most}, is {}", shown(value)))
    }
}

/// A duration of any length.
pub(crate) fn any_duration(value: &Value) -> Result<Duration, String> {
    let wrong = |why: String| {
        format!("must be a duration with a unit, like \"30s\" or \"2h\"; {} is not{why}", shown(value))
    };
    let text = value.as_str().ok_or_else(|| wrong(String::new()))?;
    sortie_config_file::duration(text).map_err(|problem| wrong(format!(": {problem}")))
}

/// A number of bytes within `range`.
pub(crate) fn size(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        let wrong = || {
            format!("must be a byte size with a unit, like \"512KiB\" or \"1MiB\"; {} is not", shown(value))
        };
        let text = value.as_str().ok_or_else(wrong)?;
        if text.trim_end().ends_with(|character: char| character.is_ascii_digit()) {
            return Err(wrong());
        }
        let bytes = ByteSize::from_str(text.trim()).map_err(|_| wrong())?.as_u64();
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        Err(format!(
            "must be from {} to {}, is {}",
            show_size(*range.start()),
            show_size(*range.end()),
            quoted(text)
        ))
    }
}

/// The size in the largest unit that expresses it exactly.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units.into_iter().find(|(bits, _)| bytes != 0 && bytes.trailing_zeros() >= *bits);
    exact.map_or_else(|| format!("{bytes}B"), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

/// One of the names that `by_name` knows.
pub(crate) fn choice<T>(
    names: &'static [&'static str],
    by_name: fn(&str) -> Option<T>,
) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        value.as_str().and_then(by_name).ok_or_else(|| {
            let meant = value.as_str().and_then(|text| keys::closest(text, names.iter().copied()));
            let hint = meant.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
            format!("must be {}, is {}{hint}", one_of(names), shown(value))
        })
    }
}

fn one_of(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}

/// A list of at most `max` entries. All errors of its entries make one problem.
pub(crate) fn list<T>(
    max: usize,
    entry: impl Fn(&Value) -> Result<T, String>,
) -> impl Fn(&Value) -> Result<Vec<T>, String> {
    move |value| {
        let entries = value.as_array().ok_or_else(|| format!("must be a list, is {}", kind_of(value)))?;
        if entries.len() > max {
            return Err(format!("has {} entries, at most {max} are allowed", entries.len()));
        }
        let (mut good, mut faults) = (Vec::new(), Vec::new());
        for (at, value) in entries.iter().enumerate() {
            match entry(value) {
                Ok(entry) => good.push(entry),
                Err(fault) => faults.push(format!("entry {at} {fault}")),
            }
        }
        if faults.is_empty() { Ok(good) } else { Err(faults.join("; ")) }
    }
}

/// A table of at most `max` environment variables.
pub(crate) fn variables(max: usize) -> impl Fn(&Value) -> Result<BTreeMap<String, String>, String> {
    move |value| {
        let entries =
            value.as_object().ok_or_else(|| format!("must be a table of texts, is {}", kind_of(value)))?;
        if entries.len() > max {
            return Err(format!("has {} entries, at most {max} are allowed", entries.len()));
        }
        let (mut good, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, value) in entries {
            if name.is_empty() || name.contains(['=', '\0']) {
                faults.push(format!("{} is not a name for a variable", quoted(name)));
            }
            match text(value) {
                Ok(text) => drop(good.insert(name.clone(), text.to_owned())),
                Err(fault) => faults.push(format!("{} {fault}", quoted(name))),
            }
        }
        if faults.is_empty() { Ok(good) } else { Err(faults.join("; ")) }
    }
}

/// Properties of a match.
pub(crate) fn properties(value: &Value) -> Result<Properties, String> {
    if !value.is_object() {
        return Err(format!("must be a table, is {}", kind_of(value)));
    }
    Properties::parse(&value.to_string())
}

/// A path, made absolute: from `base`, which itself may be relative to the working folder.
pub(crate) fn path(value: &Value, base: Option<&Path>) -> Result<PathBuf, String> {
    let text = text(value)?;
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let joined = base.map_or_else(|| PathBuf::from(text), |base| base.join(text));
    path::absolute(joined).map_err(|error| format!("cannot be made absolute: {error}"))
}

/// An address with a port.
pub(crate) fn socket(value: &Value) -> Result<SocketAddr, String> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        format!(
            "must be an IP address and a port, like \"127.0.0.1:7400\" or \"[::1]:7400\", is {}",
            shown(value)
        )
    })
}

/// An IP address that can be given to others: not `0.0.0.0`.
pub(crate) fn ip(value: &Value) -> Result<IpAddr, String> {
    let parsed: Option<IpAddr> = value.as_str().and_then(|text| text.parse().ok());
    let usable = parsed.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
    usable.ok_or_else(|| {
        format!("must be the IP address of one machine, like \"203.0.113.7\", is {}", shown(value))
    })
}

/// A network; a single address is a network of one.
pub(crate) fn network(value: &Value) -> Result<IpNet, String> {
    let text = value.as_str().unwrap_or_default();
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network =
        parsed.ok_or_else(|| format!("must be a network like \"10.0.0.0/8\", is {}", shown(value)))?;
    if network.addr() == network.network() {
        return Ok(network);
    }
    Err(format!("must be a network: write \"{}\" for {text:?}, or only the address", network.trunc()))
}

/// Ports as `first-last`, or a single one.
pub(crate) fn ports(value: &Value) -> Result<RangeInclusive<u16>, String> {
    let bounds = value.as_str().map(|text| text.split_once('-').unwrap_or((text, text)));
    let parsed =
        bounds.and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    let (first, last): (u16, u16) =
        parsed.ok_or_else(|| format!("must be ports like \"7800-7899\", is {}", shown(value)))?;
    if first == 0 || first > last {
        return Err(format!("must go from a lower port, at least 1, to a higher one, is {}", shown(value)));
    }
    Ok(first..=last)
}

/// An `http` or `https` URL without its last slash.
pub(crate) fn public_url(value: &Value) -> Result<String, String> {
    let url = web(value)?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An `http` or `https` URL to call.
pub(crate) fn fetched_url(value: &Value) -> Result<String, String> {
    web(value).map(String::from)
}

/// Whether anybody on the network path could forge what comes from `url`.
pub(crate) fn is_open_to_others(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true };
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && !is_loopback
}

/// An origin as browsers write it: of a web page, of an app with a scheme of its own, or `null`.
pub(crate) fn origin(value: &Value) -> Result<String, String> {
    const RIGHT: &str =
        "must be an origin like \"https://play.example.com\", \"capacitor://localhost\" or \"null\"";
    let written = text(value)?;
    if written == "null" {
        return Ok(written.to_owned());
    }
    if written.contains('*') {
        return Err(format!("{RIGHT}: `*` is not supported, so name each origin"));
    }
    // The part before an `@` or after a `?` may be a secret, so the text is not quoted.
    let url = Url::parse(written).map_err(|error| format!("{RIGHT}: {error}"))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(RIGHT)?;
    let is_more = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if is_more || url.fragment().is_some() {
        return Err(format!("{RIGHT}, without user, query or fragment"));
    }
    if !matches!(url.path(), "" | "/") {
        return Err(format!("must be an origin without a path, is {}", shown(value)));
    }
    if url.origin().is_tuple() {
        return Ok(url.origin().ascii_serialization());
    }
    // In the URL standard, schemes of apps have no origin; their browsers send scheme and host.
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{}{port}", url.scheme(), host.to_ascii_lowercase()))
}

/// A host that requests name, without a port: a name, which becomes lower case, or an address.
pub(crate) fn host(value: &Value) -> Result<String, String> {
    let written = text(value)?;
    let bare = written.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(written);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    let is_name = (1..=253).contains(&written.len())
        && written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name {
        return Ok(written.to_ascii_lowercase());
    }
    Err(format!(
        "must be a name like \"sortie.example.com\" or an IP address, without a port, is {}",
        shown(value)
    ))
}

fn web(value: &Value) -> Result<Url, String> {
    // The part before an `@` or after a `?` may be a secret, so the text is not quoted.
    let right = "must be an http or https URL like \"https://play.example.com\"";
    let url = Url::parse(text(value)?).map_err(|error| format!("{right}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(right.to_owned());
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(format!("{right}, without user, query or fragment"));
    }
    Ok(url)
}

/// Log levels: `level` or `module=level`, separated by commas.
pub(crate) fn levels(value: &Value) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text(value)?;
    for part in text.split(',') {
        let (module, level) =
            part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let module_fits = module.is_none_or(|module| {
            !module.is_empty()
                && module.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
        });
        if !module_fits || !LEVELS.contains(&level) {
            let levels = LEVELS.join(", ");
            return Err(format!(
                "must be one of {levels}, or module=level, with commas between; {} is not",
                quoted(part)
            ));
        }
    }
    Ok(text.to_owned())
}

/// 32 bytes as 64 hexadecimal digits.
pub(crate) fn sha256(value: &Value) -> Result<[u8; 32], String> {
    let text = text(value)?;
    let mut hash = [0; 32];
    // The text is not quoted: it may be the key, put here by mistake.
    match base16ct::mixed::decode(text, &mut hash) {
        Ok(decoded) if decoded.len() == 32 => Ok(hash),
        _ => Err("must be the SHA-256 of the key, 64 hexadecimal digits; not the key itself".to_owned()),
    }
}
