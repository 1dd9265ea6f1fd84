//! Players who sign in, with tokens that another implementation has signed.

use serde_json::{Value, json};

use crate::python;
use crate::site::{Site, idle_fleet};

const ISSUER: &str = "https://accounts.example";
const SUBSCRIBE: &str = "/api/v1/events/subscribe";
const WANNAPLAY: &str = "/matchmaker/wannaplay";

/// Tokens, and a JWKS file `jwks.json` with what they were signed by.
async fn sign(site: &Site) -> Value {
    let jwks = site.path("jwks.json");
    python::run(site, "sign_tokens.py", &[jwks.to_str().unwrap()]).await.json()
}

fn configured(keys: &Value) -> Value {
    let mut players = json!({"issuer": ISSUER, "audience": "my-game"});
    players.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let mut fleet = idle_fleet();
    fleet["game"] = "arena".into();
    fleet["version"] = "1".into();
    json!({
        "players": players,
        "netcode": {"key_file": "netcode.key"},
        "gateway": {"players": "signed_in", "default_fleet": "quiet"},
        "fleets": {"quiet": fleet},
    })
}

/// A site with these keys for tokens, and an API key, without which nothing starts.
async fn site(keys: &Value) -> Site {
    let site = Site::with_config(&configured(keys));
    std::fs::write(site.path("netcode.key"), [7; 32]).unwrap();
    std::fs::write(site.path("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let made = site.run(&["key", "create", "--name", "admin", "--permission", "admin"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    site
}

#[tokio::test]
async fn tokens_signed_by_another_implementation() {
    let site = site(&json!({"jwks_file": "jwks.json"})).await;
    let tokens = sign(&site).await;
    let control_plane = site.up(&[]).await;
    let status = async |method: &str, path: &str, token: &str| {
        let request = control_plane.request(method, path).header("authorization", format!("Bearer {token}"));
        request.send().await.unwrap().status().as_u16()
    };
    for (name, token) in tokens["good"].as_object().unwrap() {
        let token = token.as_str().unwrap();
        assert_eq!(status("GET", SUBSCRIBE, token).await, 200, "{name}");
        assert_eq!(status("GET", "/v1/matches", token).await, 403, "{name}");
    }
    for (name, token) in tokens["bad"].as_object().unwrap() {
        let token = token.as_str().unwrap();
        assert_eq!(status("GET", SUBSCRIBE, token).await, 401, "{name}");
        assert_eq!(status("POST", WANNAPLAY, token).await, 401, "{name}");
    }
    assert_eq!(status("GET", SUBSCRIBE, tokens["secret"].as_str().unwrap()).await, 401, "HS256");
    let answer = control_plane.request("POST", WANNAPLAY).send().await.unwrap();
    assert_eq!(answer.status(), 401, "nobody has signed in");
    let stderr = site.stderr();
    let shown =
        tokens["good"].as_object().unwrap().values().any(|token| stderr.contains(token.as_str().unwrap()));
    assert!(!shown, "a token is in the log");
}

#[tokio::test]
async fn a_secret_shared_with_whoever_signs() {
    let site = site(&json!({"secret_file": "secret"})).await;
    let tokens = sign(&site).await;
    let control_plane = site.up(&[]).await;
    let status = async |token: &Value| {
        let request =
            control_plane.request("GET", SUBSCRIBE).header("catena-session-id", token.as_str().unwrap());
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&tokens["secret"]).await, 200);
    assert_eq!(status(&tokens["good"]["RS256"]).await, 401);
    let shown = site.run(&["config", "show"]).await;
    assert!(shown.code == Some(0) && !shown.stdout.contains("0123456789abcdef"), "{}", shown.stdout);
}
