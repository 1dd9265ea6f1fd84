//! Access control, over a real socket.

use serde_json::{Value, json};
use sortie_sidecar::control::{ControlError, ControlKey, ControlOptions, ControlPort};

use super::harness::{Sidecar, options, soon};

const PATHS: [(&str, &str); 11] = [
    ("GET", "/"),
    ("GET", "/panel.js"),
    ("GET", "/panel.css"),
    ("GET", "/events"),
    ("GET", "/api/core/v1/sidecars"),
    ("GET", "/api/v1/profiles"),
    ("POST", "/api/v1/profiles"),
    ("GET", "/api/v1/servers"),
    ("POST", "/api/v1/servers/launch"),
    ("DELETE", "/api/v1/servers/x"),
    ("GET", "/api/v1/nothing"),
];

async fn status(sidecar: &Sidecar, (method, path): (&str, &str), headers: &[(&str, &str)]) -> u16 {
    let request = headers
        .iter()
        .fold(sidecar.request(method, path), |request, (name, value)| request.header(*name, *value));
    soon(request.send()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_port_that_others_can_reach_needs_a_key() {
    for listen in [":0", "0.0.0.0:0", "[::]:0"] {
        let error = ControlPort::bind(ControlOptions::new(listen.parse().unwrap())).await.err();
        let Some(error @ ControlError::NoKey { .. }) = error else { panic!("{listen} was taken") };
        let text = error.to_string();
        assert!(text.contains("can be reached from other machines"), "{text}");
        assert!(text.contains("ApiKeyFile") && text.ends_with("listen on localhost:0"), "{text}");
    }
}

#[tokio::test]
async fn nothing_but_health_without_the_key() {
    for listen in [":0", "localhost:0"] {
        let api_key = ControlKey::new("s3cret");
        let options = ControlOptions { listen: listen.parse().unwrap(), api_key, ..options() };
        let sidecar = Sidecar::start_with(options, json!([])).await;
        assert_eq!(status(&sidecar, ("GET", "/healthz"), &[]).await, 200);
        for call in PATHS {
            assert_eq!(status(&sidecar, call, &[]).await, 401, "{call:?}");
            assert_eq!(status(&sidecar, call, &[("authorization", "Bearer s3cre")]).await, 401, "{call:?}");
            let found = status(&sidecar, call, &[("authorization", "Bearer s3cret")]).await;
            assert!(found != 401 && found != 403, "{call:?}: {found}");
        }
        // Whatever name is used for the machine, a browser asks for the key.
        let named = [("host", "box.lan"), ("authorization", "Basic bWU6czNjcmV0")];
        assert_eq!(status(&sidecar, ("GET", "/"), &named).await, 200);
        let refused = soon(sidecar.request("GET", "/api/v1/servers").send()).await.unwrap();
        let challenges: Vec<_> = refused.headers().get_all("www-authenticate").iter().collect();
        assert!(challenges[0] == "Bearer" && challenges[1].to_str().unwrap().starts_with("Basic "));
        let answer: Value = refused.json().await.unwrap();
        assert_eq!(
            (&answer["code"], &answer["details"][0]["reason"]),
            (&json!(16), &json!("unauthenticated"))
        );
    }
}

#[tokio::test]
async fn pages_of_others_are_kept_out() {
    let sidecar = Sidecar::start().await;
    let own = format!("http://{}", sidecar.address);
    for call in PATHS {
        assert_eq!(status(&sidecar, call, &[("origin", "http://evil.example")]).await, 403, "{call:?}");
        assert_eq!(status(&sidecar, call, &[("origin", "null")]).await, 403, "{call:?}");
        // DNS rebinding: the attacker's name now resolves to this machine.
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(status(&sidecar, call, &rebound).await, 403, "{call:?}");
        assert_eq!(status(&sidecar, call, &rebound[..1]).await, 403, "{call:?}");
        assert_ne!(status(&sidecar, call, &[("origin", &own)]).await, 403, "{call:?}");
    }
    let (status, code, _) = {
        let request = sidecar.request("POST", "/api/v1/profiles").header("origin", "http://evil.example");
        let body = json!({"profiles": [{"profileId": "p", "command": "x"}]}).to_string();
        let response = soon(request.body(body).send()).await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        (status, answer["details"][0]["reason"].clone(), answer)
    };
    assert_eq!((status, code), (403, json!("forbidden")));
    assert_eq!(sidecar.ok("GET", "/api/v1/profiles", json!(null)).await, json!({"profiles": []}));
}
