//! How long it takes until a waiting server has a new match: measured from outside over HTTP, with servers and matches
//! made for the measurement, while the demo runs.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use sortie_domain::broker::{Broker, Event};
use sortie_engine::{Cursor, Handle};

use crate::failure::Failure;

/// Prefix of the ids of servers that only measure.
pub(super) const PROBE: &str = "demo-probe-";
/// Maximum wait for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(40);
/// Hints of the server manager contract.
const WILLING_TO_WAIT: u32 = 2;
const SHUTDOWN: u32 = 1;

/// Measures `count` handovers, one after the other.
pub(super) async fn measure(
    url: &str,
    broker: &Handle<Broker>,
    count: u32,
) -> Result<Vec<Duration>, Failure> {
    let client = sortie_tls::http_client(url, None)?.timeout(ANSWER_TIME).build()?;
    let mut took = Vec::new();
    for round in 0..count {
        took.push(one(&client, url, broker, &format!("{PROBE}{round}")).await?);
    }
    took.sort_unstable();
    Ok(took)
}

/// A server waits, a match comes, the server has it.
async fn one(client: &Client, url: &str, broker: &Handle<Broker>, server: &str) -> Result<Duration, Failure> {
    let mut events = broker.subscribe(Cursor::Latest);
    let request = json!({
        "serverId": server,
        "requirements": format!("MatchProperties.probe == '{server}'"),
        "hintFlags": WILLING_TO_WAIT,
    });
    let waiting = post(client, format!("{url}/api/v1/server/request_match"), request);
    let came = async {
        // A server is registered by the request that then waits.
        loop {
            let record = events.next().await.map_err(|error| Failure::of("lost the event log", error))?;
            if matches!(&record.event, Event::ServerRegistered { server: id } if id.as_str() == server) {
                break;
            }
        }
        let submitted = Instant::now();
        post(
            client,
            format!("{url}/v1/matches"),
            json!({ "players": [], "properties": { "probe": server } }),
        )
        .await?;
        Ok::<_, Failure>(submitted)
    };
    let handed_over = async { waiting.await.map(|answer| (answer, Instant::now())) };
    let (submitted, (answer, received)) = tokio::try_join!(came, handed_over)?;
    let id = answer.pointer("/match/matchId").and_then(Value::as_str);
    let id = id.ok_or_else(|| Failure::new("a waiting server got no match"))?;
    let ready = json!({ "serverId": server, "matchId": id, "connectionDetails": "127.0.0.1:1" });
    post(client, format!("{url}/api/v1/server/match_ready"), ready).await?;
    let end = json!({ "serverId": server, "matchId": id, "hintFlags": SHUTDOWN });
    post(client, format!("{url}/api/v1/server/end_match"), end).await?;
    Ok(received.duration_since(submitted))
}

async fn post(client: &Client, url: String, body: Value) -> Result<Value, Failure> {
    Ok(client.post(url).json(&body).send().await?.error_for_status()?.json().await?)
}
