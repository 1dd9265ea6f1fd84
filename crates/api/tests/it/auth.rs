//! Who may call what.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sortie_api::{ApiKey, Auth, Limits, Permission};
use sortie_wire::catena::server_manager::RequestMatchRequest;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use tonic::metadata::MetadataValue;

use crate::grpc::channel;
use crate::harness::{Server, soon};

fn key(text: &str, permission: Permission) -> ApiKey {
    ApiKey { name: text.into(), sha256: Sha256::digest(text).into(), permissions: vec![permission] }
}

fn keys() -> Auth {
    Auth::keys(&[
        key("game", Permission::GameServerMatch),
        key("client", Permission::Client),
        key("admin", Permission::Admin),
    ])
}

async fn status(server: &Server, method: &str, path: &str, key: Option<&str>) -> u16 {
    let request = server.request(method, path).header("catena-session-id", "p1");
    let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    soon(request.send()).await.unwrap().status().as_u16()
}

/// Each route with the keys that open it.
const TABLE: &[(&str, &str, &[&str])] = &[
    ("POST", "/api/v1/server/request_match", &["game", "admin"]),
    ("POST", "/api/v1/server/match_ready", &["game", "admin"]),
    ("POST", "/api/v1/server/end_match", &["game", "admin"]),
    ("POST", "/api/v1/servers", &["admin"]),
    ("GET", "/api/v1/servers", &["admin"]),
    ("POST", "/api/v1/server/allocate", &["admin"]),
    ("POST", "/api/v1/server/deallocate", &["admin"]),
    ("GET", "/api/v1/matches", &["client", "admin"]),
    ("GET", "/api/v1/matchbroker/admin/list-active-matches", &["admin"]),
    ("GET", "/api/v1/matchbroker/admin/match/m", &["admin"]),
    ("DELETE", "/api/v1/matchbroker/admin/delete/m", &["admin"]),
    ("GET", "/api/v1/matchbroker/admin/allocators/available", &["admin"]),
    ("GET", "/api/v1/matchbroker/admin/allocators/configured", &["admin"]),
    ("GET", "/api/v1/matchbroker/admin/config", &["admin"]),
    ("POST", "/api/v1/matchbroker/admin/reconfigure", &["admin"]),
    ("GET", "/api/v1/events/subscribe", &["client", "admin"]),
    ("GET", "/api/v1/events/subscribe/tags?eventTags=new-match", &["client", "admin"]),
    ("POST", "/api/v1/events/emit", &["client", "admin"]),
    ("POST", "/api/v1/admin/events/emit", &["admin"]),
    ("POST", "/v1/matches", &["client", "admin"]),
    ("GET", "/v1/matches", &["client", "admin"]),
    ("HEAD", "/v1/matches", &["client", "admin"]),
    ("GET", "/v1/matches/m", &["game", "client", "admin"]),
    ("DELETE", "/v1/matches/m", &["client", "admin"]),
    ("GET", "/v1/matches/m/explain", &["client", "admin"]),
    ("POST", "/v1/matches/m/seats", &["client", "admin"]),
    ("POST", "/v1/seats/s/claim", &["game", "admin"]),
    ("DELETE", "/v1/seats/s", &["game", "client", "admin"]),
    ("GET", "/v1/servers", &["admin"]),
    ("GET", "/v1/fleets", &["client", "admin"]),
    ("GET", "/v1/events", &["client", "admin"]),
];

#[tokio::test]
async fn each_route_opens_for_its_keys_only() {
    let server = Server::start_with(keys(), Limits::default()).await;
    for (method, path, openers) in TABLE {
        assert_eq!(status(&server, method, path, None).await, 401, "{method} {path} without a key");
        assert_eq!(
            status(&server, method, path, Some("wrong")).await,
            401,
            "{method} {path} with a wrong key"
        );
        for key in ["game", "client", "admin"] {
            let status = status(&server, method, path, Some(key)).await;
            let opened = status != 401 && status != 403;
            assert_eq!(opened, openers.contains(&key), "{method} {path} with {key}: {status}");
        }
    }
    for path in ["/healthz", "/readyz", "/api/v1/matchbroker/healthz"] {
        assert_eq!(status(&server, "GET", path, None).await, 200, "{path}");
    }
    assert_eq!(status(&server, "GET", "/nothing", None).await, 404);
}

#[tokio::test]
async fn the_refusal_says_what_would_be_right() {
    let server = Server::start_with(keys(), Limits::default()).await;
    let response = server.request("GET", "/v1/matches").send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "unauthenticated");
    let response =
        server.request("GET", "/api/v1/servers").header("catena-api-key", "game").send().await.unwrap();
    let answer: Value = response.json().await.unwrap();
    assert_eq!((&answer["code"], &answer["details"][0]["reason"]), (&json!(7), &json!("forbidden")));
    assert!(answer["message"].as_str().unwrap().contains("`admin`"));
    assert!(!answer.to_string().contains("game"), "{answer}");
}

#[tokio::test]
async fn the_same_rules_hold_over_grpc() {
    let server = Server::start_with(keys(), Limits::default()).await;
    let mut client = CatenaServerManagerClient::new(channel(&server).await);
    let request = |key: Option<&str>| {
        let message = RequestMatchRequest { server_id: "s1".into(), ..Default::default() };
        let mut request = tonic::Request::new(message);
        if let Some(key) = key {
            let value = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    };
    let refused = client.request_match(request(None)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let refused = client.request_match(request(Some("client"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert_eq!(sortie_wire::status::reason(&(&refused).into()).as_deref(), Some("forbidden"));
    client.request_match(request(Some("game"))).await.unwrap();
}

#[tokio::test]
async fn keys_are_replaced_while_the_server_runs() {
    let auth = keys();
    let server = Server::start_with(auth.clone(), Limits::default()).await;
    assert_eq!(status(&server, "GET", "/v1/matches", Some("client")).await, 200);
    auth.replace_keys(&[key("next", Permission::Client)]);
    assert_eq!(status(&server, "GET", "/v1/matches", Some("client")).await, 401);
    assert_eq!(status(&server, "GET", "/v1/matches", Some("next")).await, 200);
}
