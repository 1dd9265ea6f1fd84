//! The game server of `sortie bench gateway`, started as a process of a fleet. It plays nothing: it takes every match
//! that its fleet gets, says at once that players may come, and ends the match after a while. Whatever time that
//! leaves belongs to the control plane.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::Connection;
use crate::failure::Failure;

/// Requests for a match that wait at the control plane at a time, of the 64 that it allows a server.
const WAITING: usize = 32;
/// How long a match lasts: its places are taken long before.
const MATCH_TIME: Duration = Duration::from_secs(5);
/// Hints of the server manager contract.
const WILLING_TO_WAIT: u32 = 2;
const SHUTDOWN: u32 = 1;

/// Works until the control plane is gone or asks for the end.
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
    // The first that ends is the end: no further match comes, or nobody is there to give one.
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
