//! `sortie queue list`, `sortie server list`, `sortie fleet list`.

use std::process::ExitCode;

use super::output::{Column, items};
use crate::cli::{Listing, ListingAction};
use crate::failure::Failure;
use crate::remote::ControlPlane;

pub(crate) async fn queues(options: Listing) -> Result<ExitCode, Failure> {
    let columns = [
        ("QUEUE", "/queue"),
        ("WAITING", "/waiting"),
        ("TEAMS", "/teams"),
        ("PLAYERS PER TEAM", "/players_per_team"),
        ("BACKFILL", "/backfill"),
        ("RULES", "/rules"),
    ];
    list(options, "/v1/queues", "queues", &columns).await
}

pub(crate) async fn servers(options: Listing) -> Result<ExitCode, Failure> {
    let columns =
        [("SERVER", "/server_id"), ("STATE", "/state"), ("FLEET", "/fleet"), ("MATCHES", "/matches")];
    list(options, "/v1/servers", "servers", &columns).await
}

pub(crate) async fn fleets(options: Listing) -> Result<ExitCode, Failure> {
    let columns = [
        ("FLEET", "/fleet"),
        ("LIVE", "/live"),
        ("PENDING", "/pending"),
        ("IDLE", "/idle"),
        ("WARM", "/warm"),
        ("MAX", "/max"),
        ("FAILURES", "/failures"),
        ("LAST ERROR", "/last_error"),
    ];
    list(options, "/v1/fleets", "fleets", &columns).await
}

async fn list(options: Listing, path: &str, name: &str, columns: &[Column]) -> Result<ExitCode, Failure> {
    let ListingAction::List(remote) = options.action;
    let json = remote.json;
    let found = ControlPlane::new(remote)?.list(path, name).await?;
    items(&found, columns, json)?;
    Ok(ExitCode::SUCCESS)
}
