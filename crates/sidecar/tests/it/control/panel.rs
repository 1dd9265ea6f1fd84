//! The debug panel.

use serde_json::{Value, json};
use sortie_sidecar::control::{ControlOptions, MAX_STREAMS, SourceState, SourceStatus};
use sortie_wire::catena::server_manager::RequestMatchRequest;

use super::harness::{Sidecar, options, soon};

const HOSTILE: &str = "<img/src=x/onerror=alert(1)>\"'`&amp;</script>";

/// The events of an open page.
struct Page {
    response: reqwest::Response,
    rest: String,
}

impl Page {
    async fn open(sidecar: &Sidecar) -> Self {
        let response = soon(sidecar.request("GET", "/events").send()).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, rest: String::new() }
    }

    /// Name and document of the next event.
    async fn next(&mut self) -> Option<(String, Value)> {
        let event = loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let event = event.to_owned();
                self.rest = rest.to_owned();
                break event;
            }
            let chunk = soon(self.response.chunk()).await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        };
        let (name, data) = event.split_once('\n').unwrap();
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        Some((name.strip_prefix("event: ").unwrap().to_owned(), data))
    }

    /// The next `now` document that matches.
    async fn now(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (name, document) = self.next().await.expect("the stream ended");
            if name == "now" && wanted(&document) {
                return document;
            }
        }
    }
}

#[tokio::test]
async fn the_page_comes_from_here_alone() {
    let sidecar = Sidecar::start().await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/panel.js", "text/javascript; charset=utf-8"),
        ("/panel.css", "text/css; charset=utf-8"),
        ("/events", "text/event-stream"),
    ] {
        let response = soon(sidecar.request("GET", path).send()).await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), kind);
        assert_eq!((&*header("x-content-type-options"), &*header("cache-control")), ("nosniff", "no-store"));
        let policy = header("content-security-policy");
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        if path != "/events" {
            let text = response.text().await.unwrap();
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("//cdn"), "{path}");
        }
    }
    let page = soon(sidecar.request("GET", "/").send()).await.unwrap().text().await.unwrap();
    // What the policy would block.
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"), "{page}");
    assert_eq!(page.matches("<script").count(), 1);
}

/// Text becomes markup only through one of these.
#[tokio::test]
async fn the_page_makes_no_markup_of_text() {
    let sidecar = Sidecar::start().await;
    let script = soon(sidecar.request("GET", "/panel.js").send()).await.unwrap().text().await.unwrap();
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "createContextualFragment",
        "DOMParser",
        "setHTML",
        "srcdoc",
        "eval(",
        "new Function",
        "setAttribute",
        "href",
        ".src",
        "style",
        "import(",
    ] {
        assert!(!script.contains(sink), "{sink}");
    }
}

#[tokio::test]
async fn the_panel_shows_changes_live() {
    let settings = json!({"app": {"backend": {"catena_backend": {"ApiKey": "hidden"}}}});
    let options = ControlOptions {
        hostname: "box".into(),
        settings: settings.clone(),
        resolver: Some("static_resolver".into()),
        ..options()
    };
    let sidecar = Sidecar::start_with(options, json!([{"matchId": HOSTILE}])).await;
    let mut page = Page::open(&sidecar).await;
    let (name, about) = page.next().await.unwrap();
    assert_eq!(name, "about");
    assert_eq!((&about["hostname"], &about["resolver"]), (&json!("box"), &json!("static_resolver")));
    assert_eq!(about["settings"], settings);
    assert!(about["id"].as_str().unwrap().starts_with("sidecar-"));
    let now = page.now(|_| true).await;
    assert_eq!((&now["servers"], &now["queued"], &now["calls"]), (&json!([]), &json!([]), &json!([])));
    assert_eq!(now["backend"], json!({"name": "noop_backend", "away": null}));
    let source = SourceStatus {
        name: "catena_api_event_source".into(),
        listens: vec![":8080".into()],
        state: SourceState::Failed("no port".into()),
    };
    sidecar.sources.send_replace(vec![source]);
    let now = page.now(|now| now["sources"] != json!([])).await;
    let shown =
        json!({"name": "catena_api_event_source", "listens": [":8080"], "state": {"failed": "no port"}});
    assert_eq!(now["sources"], json!([shown]));
    let ask = RequestMatchRequest { server_id: "s1".into(), ..RequestMatchRequest::default() };
    sidecar.manager.request_match("catena_api_event_source", ask).await.unwrap();
    let now = page.now(|now| now["servers"][0]["matches"] != json!([]) && now["calls"] != json!([])).await;
    // As data, whatever it looks like.
    assert_eq!(now["servers"][0]["matches"][0]["id"], json!(HOSTILE));
    let call = &now["calls"][0];
    assert_eq!((&call["call"], &call["serverId"]), (&json!("RequestMatch"), &json!("s1")));
    assert_eq!(call["outcome"], json!("answered"));
    sidecar.closing.cancel();
    while page.next().await.is_some() {}
}

#[tokio::test]
async fn so_many_pages_are_open() {
    let sidecar = Sidecar::start().await;
    let mut pages = Vec::new();
    for _ in 0..MAX_STREAMS {
        pages.push(Page::open(&sidecar).await);
    }
    let refused = soon(sidecar.request("GET", "/events").send()).await.unwrap();
    assert_eq!(refused.status(), 429);
    // A program whose caller is refused would run unnoticed.
    let mut program = sidecar.script("p", "echo ran >\"$say\"\n").await;
    let launch = json!({"profileId": "p", "subscribe": true}).to_string();
    assert_eq!(sidecar.refused("POST", "/api/v1/servers/launch", launch).await.0, 429);
    pages.pop();
    // Its end is noticed eventually.
    while soon(sidecar.request("GET", "/events").send()).await.unwrap().status() != 200 {}
    sidecar.ok("POST", "/api/v1/servers/launch", json!({"profileId": "p"})).await;
    assert_eq!(program.says().await, "ran");
}
