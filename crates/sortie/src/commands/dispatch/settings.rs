//! Where a dispatcher listens and who may use it: flags, then environment variables, then the configuration.
//!
//! The variables are those of the service that existing drivers use, so that this one is a drop-in replacement for it.
//! That service falls back to a well-known word if the secret is missing; this one refuses to start, unless only this
//! machine can reach it.

use std::net::SocketAddr;

use sortie_dispatch::Secret;
use sortie_serving::ListenAddr;
use sortie_tunnel::{Token, TokenSource};

use crate::failure::Failure;

/// Variables that may hold the secret; the first one that is set counts.
const SECRETS: [&str; 2] = ["PLACE_SERVER_SECRET", "SERVER_SECRET"];
/// A tunnel's own variable, because the secret of a dispatcher on the same machine may be a different one.
const TOKEN: &str = "SORTIE_DISPATCH_TOKEN";
const HOST: &str = "SG_SERVER_HOST";
const PORT: &str = "SG_SERVER_PORT";
const ENVIRONMENT: &str = "SG_ENV";
/// Where to listen by default.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: &str = "3000";
/// Default of `log.level`.
const DEFAULT_LEVELS: &str = "info";
/// Log levels outside of production if `log.level` is not set.
const DEVELOPMENT_LEVELS: &str = "info,sortie_dispatch=debug,sortie_serving=debug";

/// The environment, by name; an empty variable counts as not set.
pub(super) struct Variables<F>(pub(super) F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }

    /// The secret that drivers have to send.
    ///
    /// # Errors
    /// If it is not a valid secret.
    pub(super) fn secret(&self) -> Result<Option<Secret>, Failure> {
        let text = SECRETS.iter().find_map(|name| self.get(name));
        Ok(text.map(Secret::new).transpose()?)
    }

    /// The token or secret that a tunnel sends to a dispatcher.
    ///
    /// # Errors
    /// If it cannot be sent in a header.
    pub(super) fn token(&self) -> Result<TokenSource, Failure> {
        let found = [TOKEN].iter().chain(&SECRETS).find_map(|name| Some((name, self.get(name)?)));
        let Some((name, text)) = found else { return Ok(TokenSource::None) };
        let token = Token::new(text).map_err(|problem| Failure::of(name, problem))?;
        Ok(TokenSource::Fixed(token))
    }

    /// Where to listen; `None` if neither variable is set.
    ///
    /// # Errors
    /// If they do not form an address.
    pub(super) fn listen(&self) -> Result<Option<ListenAddr>, Failure> {
        let (host, port) = (self.get(HOST), self.get(PORT));
        if host.is_none() && port.is_none() {
            return Ok(None);
        }
        let host = host.unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let port = port.unwrap_or_else(|| DEFAULT_PORT.to_owned());
        let bracketed = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
        let parsed = format!("{bracketed}:{port}").parse();
        parsed.map(Some).map_err(|problem| Failure::of(format!("{HOST}, {PORT}"), problem))
    }

    /// Log levels. `configured` counts unless it is the default.
    pub(super) fn levels(&self, configured: &str) -> String {
        let production = self.get(ENVIRONMENT).is_some_and(|text| text == "production");
        let chosen = configured != DEFAULT_LEVELS;
        let levels = if production || chosen { configured } else { DEVELOPMENT_LEVELS };
        levels.to_owned()
    }
}

/// Where to listen by default.
pub(super) fn default_listen() -> ListenAddr {
    ListenAddr::from(SocketAddr::from(([127, 0, 0, 1], 3000)))
}

/// # Errors
/// If anybody who can reach `address` could open ports.
pub(super) fn need_secret(has_secret: bool, dev: bool, address: SocketAddr) -> Result<(), Failure> {
    if has_secret || dev && address.ip().is_loopback() {
        return Ok(());
    }
    let [first, second] = SECRETS;
    Err(Failure::new(format!(
        "there is no secret, so anybody who can reach {address} could open ports on this machine: set {first} (or {second}), \
         or `secret_file` or `secret_env` under [dispatch]. Without a secret, listen on a loopback address in \
         development mode (--dev)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &'static [(&'static str, &'static str)]) -> Variables<impl Fn(&str) -> Option<String>> {
        Variables(move |wanted: &str| {
            let found = pairs.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn host_and_port_are_those_of_the_environment() {
        let listen = |pairs| of(pairs).listen().map(|found| found.map(|listen| listen.to_string()));
        assert_eq!(listen(&[]).unwrap(), None);
        assert_eq!(listen(&[(PORT, "80")]).unwrap().unwrap(), "127.0.0.1:80");
        assert_eq!(listen(&[(HOST, "0.0.0.0")]).unwrap().unwrap(), "0.0.0.0:3000");
        assert_eq!(listen(&[(HOST, "::"), (PORT, "81")]).unwrap().unwrap(), "[::]:81");
        assert_eq!(listen(&[(HOST, "localhost"), (PORT, "")]).unwrap().unwrap(), "localhost:3000");
        let problem = listen(&[(PORT, "70000")]).unwrap_err().to_string();
        assert!(
            problem.starts_with("SG_SERVER_HOST, SG_SERVER_PORT: ") && problem.contains("70000"),
            "{problem}"
        );
        assert_eq!(default_listen().to_string(), format!("{DEFAULT_HOST}:{DEFAULT_PORT}"));
    }

    #[test]
    fn the_first_variable_with_a_secret_counts() {
        assert!(of(&[]).secret().unwrap().is_none());
        assert!(of(&[("SERVER_SECRET", "")]).secret().unwrap().is_none());
        assert!(of(&[("PLACE_SERVER_SECRET", ""), ("SERVER_SECRET", "b")]).secret().unwrap().is_some());
    }

    #[test]
    fn a_tunnel_shows_its_token_or_the_secret() {
        let token = |pairs| of(pairs).token();
        assert!(matches!(token(&[]), Ok(TokenSource::None)));
        assert!(matches!(token(&[("SERVER_SECRET", "b")]), Ok(TokenSource::Fixed(_))));
        // The token takes precedence.
        let problem = token(&[("SERVER_SECRET", "b"), (TOKEN, "h\u{fc}sh")]).unwrap_err().to_string();
        assert!(problem.starts_with("SORTIE_DISPATCH_TOKEN: ") && !problem.contains("sh "), "{problem}");
    }

    #[test]
    fn production_logs_less_unless_a_level_is_configured() {
        assert_eq!(of(&[(ENVIRONMENT, "production")]).levels("info"), "info");
        assert_eq!(of(&[(ENVIRONMENT, "staging")]).levels("info"), DEVELOPMENT_LEVELS);
        assert_eq!(of(&[]).levels("warn"), "warn");
    }

    #[test]
    fn without_a_secret_only_this_machine_may_come() {
        let [here, there] = ["127.0.0.1:1", "0.0.0.0:1"].map(|address| address.parse().unwrap());
        assert!(need_secret(true, false, there).is_ok());
        assert!(need_secret(false, true, here).is_ok());
        assert!(need_secret(false, false, here).is_err());
        assert!(need_secret(false, true, there).is_err());
    }
}
