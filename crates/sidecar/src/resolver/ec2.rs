//! `ec2_resolver`: the address of this instance according to the metadata service of AWS EC2.
//!
//! Version 2 of the service needs a token, which is requested first. If that is forbidden, unsupported or unanswered,
//! version 1 is tried: simulators and other clouds have only that, and in a container the answer with the token is lost
//! if the instance's hop limit is 1. Players reach the public address; for an instance without one, the private address
//! is used, which is right for players in the same network.
//!
//! See "Use the Instance Metadata Service to access instance metadata" in Amazon's EC2 User Guide.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::ports::{PortRange, Ports};
use super::{Address, OptionsError, ResolveError, Resolver, check_host};

/// The service's address on every instance.
const USUAL_URL: &str = "http://169.254.169.254";
/// Lifetime of a token, in seconds: enough for all requests of one lookup.
const TOKEN_SECONDS: &str = "60";
/// Timeout for a token. Without one, version 1 is tried.
const TOKEN_DEADLINE: Duration = Duration::from_secs(1);
/// Timeout for one answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// Timeout for a lookup, including retries.
const DEADLINE: Duration = Duration::from_secs(8);
/// Number of attempts.
const ATTEMPTS: u32 = 3;
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the failure of a lookup is reused for later ones.
const REST: Duration = Duration::from_secs(1);
/// Maximum size of an answer, in bytes. Addresses and tokens are far shorter.
const MAX_ANSWER_BYTES: usize = 4096;

/// Options of `ec2_resolver`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ec2Options {
    /// URL of the metadata service.
    pub metadata_base_url: String,
    /// Ports, one per server; without any, servers report theirs.
    pub available_ports: Vec<PortRange>,
}

impl Default for Ec2Options {
    fn default() -> Self {
        Self { metadata_base_url: USUAL_URL.to_owned(), available_ports: Vec::new() }
    }
}

/// The address of the instance. It is looked up when the first server needs it, and cached; failures are retried.
pub struct Ec2Resolver {
    http: Client,
    base: String,
    known: Mutex<Known>,
    ports: Ports,
}

enum Known {
    Nothing,
    Host(String),
    Failed { until: Instant, error: ResolveError },
}

/// Why a request failed.
#[derive(Debug)]
enum Failure {
    /// Temporary.
    Passing(String),
    /// Permanent.
    Lasting(String),
}

impl fmt::Debug for Ec2Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ec2Resolver")
            .field("base", &self.base)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl Ec2Resolver {
    /// A resolver for this instance. Sends no request yet.
    ///
    /// # Errors
    /// [`OptionsError`]
    pub fn new(options: &Ec2Options) -> Result<Self, OptionsError> {
        let wrong = |problem: String| OptionsError::new("MetadataBaseUrl", problem);
        let url = Url::parse(&options.metadata_base_url).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
        });
        let url = url
            .ok_or_else(|| wrong(format!("must be a URL like {USUAL_URL:?}, without query and fragment")))?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        let http = sortie_tls::http_client(&base, None).map_err(|error| wrong(error.to_string()))?;
        // A redirect would carry the token to another host.
        let http = http.redirect(Policy::none()).timeout(ANSWER_DEADLINE).build();
        let http = http.map_err(|error| wrong(error.to_string()))?;
        let ports = Ports::of(&options.available_ports)?;
        Ok(Self { http, base, known: Mutex::new(Known::Nothing), ports })
    }

    async fn host(&self) -> Result<String, ResolveError> {
        // Held during a lookup, so that others wait for the same answer.
        let mut known = self.known.lock().await;
        match &*known {
            Known::Host(host) => return Ok(host.clone()),
            Known::Failed { until, error } if Instant::now() < *until => return Err(error.clone()),
            Known::Failed { .. } | Known::Nothing => {}
        }
        let late = || Err(Failure::Passing("it is too slow".to_owned()));
        match timeout(DEADLINE, self.search()).await.unwrap_or_else(|_| late()) {
            Ok(host) => {
                *known = Known::Host(host.clone());
                Ok(host)
            }
            Err(Failure::Passing(why) | Failure::Lasting(why)) => {
                let error = ResolveError(format!(
                    "the metadata service of EC2 at {} gave no address: {why}",
                    self.base
                ));
                *known = Known::Failed { until: Instant::now() + REST, error: error.clone() };
                Err(error)
            }
        }
    }

    async fn search(&self) -> Result<String, Failure> {
        let mut attempt = 1;
        loop {
            match self.ask().await {
                Err(Failure::Passing(_)) if attempt < ATTEMPTS => sleep(PAUSE).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn ask(&self) -> Result<String, Failure> {
        let token = self.token().await?;
        for what in ["public-ipv4", "public-hostname", "local-ipv4"] {
            let Some(text) = self.answer(what, token.as_ref()).await? else { continue };
            let is_good = if what.ends_with("ipv4") {
                text.parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_unspecified())
            } else {
                check_host(&text).is_ok()
            };
            if !is_good {
                let text: String = text.chars().take(80).collect();
                return Err(Failure::Lasting(format!("its answer for {what} is not an address: {text:?}")));
            }
            tracing::info!(address = text, what, "got this instance's address from EC2");
            return Ok(text);
        }
        Err(Failure::Lasting("the instance has neither a public nor a private IPv4 address".to_owned()))
    }

    /// The token for version 2; `None` if only version 1 is available.
    async fn token(&self) -> Result<Option<HeaderValue>, Failure> {
        let request = self.http.put(format!("{}/latest/api/token", self.base)).timeout(TOKEN_DEADLINE);
        let request = request.header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Ok(None),
            Err(error) => return Err(unreachable(&error)),
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                return Ok(None);
            }
            status => return Err(refused("a token", status)),
        }
        let text = body(response).await?;
        let token = HeaderValue::from_str(text.trim()).ok().filter(|token| !token.is_empty());
        let mut token = token.ok_or_else(|| Failure::Lasting("its token is invalid".to_owned()))?;
        token.set_sensitive(true);
        Ok(Some(token))
    }

    /// One item of the instance's metadata; `None` if the instance does not have it.
    async fn answer(&self, what: &str, token: Option<&HeaderValue>) -> Result<Option<String>, Failure> {
        let mut request = self.http.get(format!("{}/latest/meta-data/{what}", self.base));
        if let Some(token) = token {
            request = request.header("x-aws-ec2-metadata-token", token);
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::UNAUTHORIZED if token.is_none() => {
                let why = "it requires a token, and did not issue one: in a container, raise the instance's \
                           HttpPutResponseHopLimit to 2";
                return Err(Failure::Lasting(why.to_owned()));
            }
            status => return Err(refused(what, status)),
        }
        let text = body(response).await?;
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

/// The body, if it is short enough.
async fn body(mut response: Response) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Lasting(format!("its answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Failure::Lasting("its answer is not text".to_owned()))
}

/// The innermost cause is the most specific, and the URL is mentioned already.
fn unreachable(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Passing("it does not answer: is this an instance of EC2?".to_owned());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::Passing(format!("it cannot be reached ({cause}): is this an instance of EC2?"))
}

fn refused(what: &str, status: StatusCode) -> Failure {
    let why = format!("it answers {status} when asked for {what}");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Failure::Passing(why)
    } else {
        Failure::Lasting(why)
    }
}

#[async_trait]
impl Resolver for Ec2Resolver {
    fn name(&self) -> &'static str {
        "ec2_resolver"
    }

    async fn resolve(&self, server_id: &str) -> Result<Address, ResolveError> {
        let host = self.host().await?;
        Ok(Address { host, port: self.ports.get(server_id)? })
    }

    fn release(&self, server_id: &str) {
        self.ports.release(server_id);
    }

    fn claim(&self, server_id: &str, port: u16) {
        self.ports.claim(server_id, port);
    }
}
