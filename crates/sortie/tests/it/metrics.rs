//! `docs/metrics.md` names every metric, and none that does not exist.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::site::{Site, idle_fleet};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The names in the first column of the document's tables.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// The names of a scrape, as samples have them: counters with `_total`.
fn scraped(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect()
}

/// All sources below a folder, as one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[tokio::test]
async fn every_metric_is_documented() {
    let mut fleet = idle_fleet();
    fleet["game"] = json!("arena");
    fleet["version"] = json!("1");
    let site = Site::with_config(&json!({
        "dev": true,
        "dispatch": {"enabled": true, "hosts": ["127.0.0.1"]},
        "matchmaker": {"queues": {"duel": {"players_per_team": 1, "teams": 2}}},
        "fleets": {"idle": fleet},
    }));
    let control_plane = site.up(&[]).await;
    let text = control_plane.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    let (scraped, documented) = (scraped(&text), documented());
    let missing: Vec<_> = scraped.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not name {missing:?}");
    for name in ["sortie_log_records_total", "sortie_gateway_join_seconds", "sortie_dispatch_queued_bytes"] {
        assert!(scraped.contains(name), "{name} is missing in {text}");
    }
    assert!(text.contains("sortie_gateway_join_seconds_bucket{le=\"+Inf\",path=\"warm\"} 0\n"), "{text}");
    control_plane.stop().await;
}

#[test]
fn every_documented_metric_exists() {
    let mut text = String::new();
    for folder in ["crates/sortie/src/roles", "crates/dispatch/src"] {
        sources(&repository().join(folder), &mut text);
    }
    for name in documented() {
        let bare = name.strip_prefix("sortie_").unwrap();
        let bare = bare.strip_suffix("_total").unwrap_or(bare);
        let without_unit =
            ["_bytes", "_seconds"].iter().find_map(|unit| bare.strip_suffix(unit)).unwrap_or(bare);
        assert!(text.contains(&format!("\"{without_unit}\"")), "no role has {name}");
    }
}
