//! The page that shows the description of the API.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::harness::{Server, soon};

/// A file as a browser gets it from this server alone: its content type and its text.
async fn fetch(server: &Server, path: &str) -> (String, Vec<u8>) {
    let response = server.open(path, &[]).await;
    assert_eq!(response.status(), 200, "{path}");
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let policy = header(CONTENT_SECURITY_POLICY).unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("http"), "{path}: {policy}");
    let (kind, packed) = (header(CONTENT_TYPE).unwrap(), header(CONTENT_ENCODING));
    let bytes = soon(response.bytes()).await.unwrap();
    let Some(encoding) = packed else { return (kind, bytes.to_vec()) };
    assert_eq!(encoding, "gzip", "{path}");
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes.as_ref()).read_to_end(&mut unpacked).unwrap();
    (kind, unpacked)
}

/// The quoted text after each `name=` of a page.
fn attributes(page: &str, name: &str) -> Vec<String> {
    let before = format!(" {name}=\"");
    page.split(&before).skip(1).map(|part| part.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_page_and_all_that_it_loads_come_from_here() {
    let server = Server::start().await;
    let (kind, page) = fetch(&server, "/docs").await;
    assert_eq!(kind, "text/html; charset=utf-8");
    let page = String::from_utf8(page).unwrap();
    assert!(!page.contains("<script>") && !page.contains(" on"), "its policy allows nothing within the page");
    let loads: BTreeSet<_> = attributes(&page, "src").into_iter().chain(attributes(&page, "href")).collect();
    let wanted = [
        "docs/favicon-32x32.png",
        "docs/index.css",
        "docs/page.js",
        "docs/swagger-ui-bundle.js",
        "docs/swagger-ui.css",
        "openapi.json",
    ];
    assert_eq!(loads, wanted.map(ToOwned::to_owned).into());
    for file in loads.iter().filter(|name| name.starts_with("docs/")) {
        let (kind, bytes) = fetch(&server, &format!("/{file}")).await;
        let expected = match file.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/png",
        };
        assert_eq!(kind, expected, "{file}");
        if kind == "image/png" {
            assert!(bytes.starts_with(b"\x89PNG"), "{file}");
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        for load in ["url(http", "url(//", "@import", "importScripts("] {
            assert!(!text.contains(load), "{file} has {load}");
        }
    }
    let script = String::from_utf8(fetch(&server, "/docs/page.js").await.1).unwrap();
    assert!(script.contains("validatorUrl: null"), "it would ask the validator of Swagger");
    assert!(script.contains("url: \"openapi.json\"") && !script.contains("http"), "{script}");
    let bundle = String::from_utf8(fetch(&server, "/docs/swagger-ui-bundle.js").await.1).unwrap();
    assert!(bundle.contains("SwaggerUIBundle"));
}

#[tokio::test]
async fn no_other_file_is_there() {
    let server = Server::start().await;
    for path in ["/docs/", "/docs/index.html", "/docs/..%2fopenapi.json", "/docs/%ff", "/docs/a/b"] {
        let status = server.open(path, &[]).await.status().as_u16();
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
    let head = soon(server.request("HEAD", "/docs").send()).await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(server.send("POST", "/docs", "").await.0, 405);
}
