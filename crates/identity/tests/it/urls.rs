//! Keys from a URL, served by the tests' own server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sortie_identity::{Fetching, PlayerTokens, TokenError, TokenKeys, TokenOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::options;
use crate::signer::Signer;

/// The server's answer.
#[derive(Clone)]
enum Answer {
    Text(String),
    Status(StatusCode),
    Elsewhere,
    Never,
}

/// Serves keys; shut down when dropped.
struct KeyServer {
    url: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl KeyServer {
    async fn start(answer: Answer) -> Self {
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        let handler = get(move || {
            counts.fetch_add(1, Ordering::SeqCst);
            let answer = answers.lock().unwrap().clone();
            respond(answer)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let router = Router::new().route("/jwks", handler);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, answer, asked, serving }
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn tokens(&self, fetching: Fetching) -> PlayerTokens {
        PlayerTokens::new(TokenOptions { fetching, ..options(TokenKeys::Url(self.url.clone())) }).unwrap()
    }
}

async fn respond(answer: Answer) -> Response {
    match answer {
        Answer::Text(text) => text.into_response(),
        Answer::Status(status) => status.into_response(),
        Answer::Elsewhere => (StatusCode::FOUND, [(header::LOCATION, "/jwks")]).into_response(),
        Answer::Never => std::future::pending().await,
    }
}

fn keys(keys: &[Value]) -> Answer {
    Answer::Text(json!({ "keys": keys }).to_string())
}

/// Every call may fetch.
const EAGER: Fetching =
    Fetching { refresh: Duration::from_secs(300), pause: Duration::ZERO, deadline: Duration::from_secs(5) };
/// Nothing is fetched twice within a test.
const ONCE: Fetching = Fetching { pause: Duration::from_secs(3600), ..EAGER };

#[tokio::test]
async fn keys_are_fetched_once_and_again_when_one_is_missing() {
    let (old, new) = (Signer::ed(), Signer::ec());
    let server = KeyServer::start(keys(&[old.jwk("old")])).await;
    let tokens = server.tokens(EAGER);
    assert_eq!(server.asked(), 0);
    for _ in 0..3 {
        assert_eq!(tokens.player(&old.token("old", "p1")).await.unwrap().as_str(), "p1");
    }
    assert_eq!(server.asked(), 1);
    assert_eq!(tokens.player(&new.token("new", "p2")).await, Err(TokenError::UnknownKey));
    assert_eq!(server.asked(), 2);
    server.say(keys(&[new.jwk("new")]));
    assert_eq!(tokens.player(&new.token("new", "p2")).await.unwrap().as_str(), "p2");
    assert_eq!(tokens.player(&old.token("old", "p1")).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn nobody_can_make_it_fetch_more_often_than_allowed() {
    let signer = Signer::ed();
    let server = KeyServer::start(keys(&[signer.jwk("known")])).await;
    let tokens = server.tokens(ONCE);
    assert!(tokens.player(&signer.token("known", "p")).await.is_ok());
    for at in 0..50 {
        let unknown = signer.token(&format!("unknown {at}"), "p");
        assert_eq!(tokens.player(&unknown).await, Err(TokenError::UnknownKey));
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn many_callers_wait_for_one_fetch() {
    let signer = Signer::ed();
    let server = KeyServer::start(keys(&[signer.jwk("a")])).await;
    let (tokens, token) = (server.tokens(ONCE), signer.token("a", "p"));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (tokens, token) = (tokens.clone(), token.clone());
        calls.spawn(async move { tokens.player(&token).await });
    }
    assert!(calls.join_all().await.iter().all(Result::is_ok));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn without_keys_a_token_is_neither_valid_nor_invalid() {
    let signer = Signer::ed();
    let token = signer.token("a", "p");
    let too_long = Answer::Text(" ".repeat(300 << 10));
    let bad = [
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Elsewhere,
        too_long,
        keys(&[]),
        Answer::Text("<html>".into()),
    ];
    let server = KeyServer::start(Answer::Never).await;
    let impatient = server.tokens(Fetching { deadline: Duration::from_millis(50), ..EAGER });
    assert_eq!(impatient.player(&token).await, Err(TokenError::KeysUnavailable));
    let tokens = server.tokens(EAGER);
    for answer in bad {
        server.say(answer);
        assert_eq!(tokens.player(&token).await, Err(TokenError::KeysUnavailable));
    }
    server.say(keys(&[signer.jwk("a")]));
    assert!(tokens.player(&token).await.is_ok());
    // A process that starts while the key server is down.
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let down = PlayerTokens::new(options(TokenKeys::Url(format!("http://{unused}/jwks")))).unwrap();
    assert_eq!(down.player(&token).await, Err(TokenError::KeysUnavailable));
}

#[tokio::test]
async fn old_keys_stay_valid_until_newer_ones_arrive() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let server = KeyServer::start(keys(&[old.jwk("old")])).await;
    let tokens = server.tokens(Fetching { refresh: Duration::ZERO, ..EAGER });
    assert!(tokens.player(&old.token("old", "p")).await.is_ok());
    server.say(Answer::Status(StatusCode::BAD_GATEWAY));
    assert!(tokens.player(&old.token("old", "p")).await.is_ok());
    assert_eq!(tokens.player(&new.token("new", "p")).await, Err(TokenError::UnknownKey));
    server.say(keys(&[new.jwk("new")]));
    assert_eq!(tokens.player(&old.token("old", "p")).await, Err(TokenError::UnknownKey));
    assert!(tokens.player(&new.token("new", "p")).await.is_ok());
}
