//! The game server of `sortie bench gateway`, started as a process of a fleet. It plays nothing: it takes every match
//! of its fleet, reports it ready at once, and ends it after a while. All remaining time is the control plane's.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::Connection;
use crate::failure::Failure;

/// Number of concurrent requests for a match, of the 64 that the control plane allows a server.
const WAITING: usize = 32;
/// Duration of a match: its seats are taken long before.
const MATCH_TIME: Duration = Duration::from_secs(5);
/// Hints of the server manager contract.
const WILLING_TO_WAIT: u32 = 2;
const SHUTDOWN: u32 = 1;

/// Runs until the control plane is gone or sends a shutdown hint.
pub(crate) async fn run() -> Result<(), Failure> {
    let variable = |name: &str| {
        std::env::var(name)
            .map_err(|_| Failure::new(format!("{name} is not set; `sortie bench gateway` starts this")))
    };
    let (url, server) = (variable("SORTIE_API")?, variable("SORTIE_SERVER_ID")?);
    let address = format!("127.0.0.1:{}", variable("SORTIE_PORT")?);
    let key = std::env::var("SORTIE_API_KEY").ok();
    let connection = Connection::open(&url, key.as_deref()).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..WAITING {
        tasks.spawn(take_matches(connection.clone(), server.clone(), address.clone()));
    }
    // The first to finish ends everything: there are no further matches, or the control plane is gone.
    match tasks.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

async fn take_matches(mut connection: Connection, server: String, address: String) -> Result<(), Failure> {
    let mut ending = JoinSet::new();
    loop {
        let offer = connection.request_match(&server, "", WILLING_TO_WAIT).await?;
        if offer.hint_flags & SHUTDOWN != 0 {
            return Ok(());
        }
        while ending.try_join_next().is_some() {}
        let Some(game) = offer.r#match else { continue };
        connection.match_ready(&server, &game.match_id, &address).await?;
        let (mut connection, server) = (connection.clone(), server.clone());
        ending.spawn(async move {
            tokio::time::sleep(MATCH_TIME).await;
            connection.end_match(&server, &game.match_id).await
        });
    }
}
