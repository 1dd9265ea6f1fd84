//! The five genres of docs/matchmaking.md: each of its configurations as it stands there, with a crowd that comes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::site::Site;

/// The configurations, in the order of the document.
fn configurations() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/matchmaking.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, genres) = document.split_once("\n## Five genres\n").unwrap();
    let (genres, _) = genres.split_once("\n## ").unwrap();
    let blocks = genres.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// So many tickets of parties of these sizes, spread over so many seconds.
struct Crowd {
    queue: &'static str,
    tickets: u32,
    seconds: u32,
    sizes: &'static [u32],
}

impl Crowd {
    /// A line for each ticket, the same in every run.
    fn lines(&self) -> String {
        let mut random = fastrand::Rng::with_seed(42);
        let mut lines = String::new();
        for number in 0..self.tickets {
            let size = self.sizes[random.usize(0..self.sizes.len())];
            let mmr = random.u32(1_000..2_000);
            let players =
                (0..size).map(|of| json!({"id": format!("p{number}-{of}"), "ratings": {"mmr": mmr}}));
            let map = if random.bool() { "cave" } else { "castle" };
            let (eu, us) = (random.u32(20..140), random.u32(20..140));
            let ticket = json!({
                "queue": self.queue, "properties": {"map": map}, "latencies": {"eu": eu, "us": us, "asia": 160},
                "parties": [{"players": players.collect::<Vec<_>>()}],
            });
            let after = Duration::from_millis(u64::from(number * 1_000 * self.seconds / self.tickets));
            let at = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + after).to_string();
            writeln!(lines, "{}", json!({"at": at, "ticket": ticket})).unwrap();
        }
        lines
    }

    /// What becomes of it in its queue.
    async fn meets(&self, configuration: &str) -> Value {
        assert!(configuration.contains(&format!("[matchmaker.queues.{}]", self.queue)), "{configuration}");
        let site = Site::new();
        let (rules, tickets) = (site.path("rules.toml"), site.path("tickets.jsonl"));
        std::fs::write(&rules, configuration).unwrap();
        std::fs::write(&tickets, self.lines()).unwrap();
        let (rules, tickets) = (rules.to_str().unwrap(), tickets.to_str().unwrap());
        let replayed = site.run(&["matchmaker", "replay", tickets, "--config", rules, "--json"]).await;
        assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
        replayed.json()["replays"][0]["queues"][self.queue].clone()
    }
}

fn share(found: &Value) -> f64 {
    found["matched"].as_f64().unwrap() / found["tickets"].as_f64().unwrap()
}

fn most(found: &Value, measure: &str) -> f64 {
    found["quality"][measure]["most"].as_f64().unwrap_or_else(|| panic!("no {measure}: {found}"))
}

#[tokio::test]
async fn every_genre_plays_by_the_configuration_that_is_written_for_it() {
    let configurations = configurations();
    let [ladder, ranked, squads, alone, coop, quick] = &configurations[..] else {
        panic!("{} configurations", configurations.len())
    };

    let crowd = Crowd { queue: "ladder", tickets: 301, seconds: 60, sizes: &[1] };
    let found = crowd.meets(ladder).await;
    assert!(share(&found) > 0.99 && most(&found, "spread of averages, mmr") <= 400.0, "{found}");

    let crowd = Crowd { queue: "ranked", tickets: 300, seconds: 60, sizes: &[1, 1, 1, 2, 2, 3] };
    let found = crowd.meets(ranked).await;
    assert!(share(&found) > 0.8 && found["players_per_match"] == 10.0, "{found}");
    assert!(
        most(&found, "spread of averages, mmr") <= 600.0 && most(&found, "worst latency, ms") <= 140.0,
        "{found}"
    );

    let crowd = Crowd { queue: "squads", tickets: 150, seconds: 30, sizes: &[1, 2, 3, 3] };
    let found = crowd.meets(squads).await;
    assert!(share(&found) > 0.7 && found["players_per_match"] == 60.0, "{found}");
    assert!(most(&found, "worst latency, ms") <= 150.0, "{found}");

    let crowd = Crowd { queue: "alone", tickets: 100, seconds: 20, sizes: &[1] };
    let found = crowd.meets(alone).await;
    assert!(share(&found) > 0.99 && found["players_per_match"].as_f64() >= Some(30.0), "{found}");

    let crowd = Crowd { queue: "coop", tickets: 101, seconds: 60, sizes: &[1, 1, 2] };
    let found = crowd.meets(coop).await;
    assert!(share(&found) > 0.97 && found["players_per_match"].as_f64() > Some(3.0), "{found}");

    let crowd = Crowd { queue: "quick", tickets: 200, seconds: 60, sizes: &[1, 2] };
    let found = crowd.meets(quick).await;
    assert!(share(&found) > 0.95 && most(&found, "worst latency, ms") <= 200.0, "{found}");
}
