//! Conversions between the messages of the Catena contract and the broker's types.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_domain::broker::model::{Match, ServerState};
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_wire::catena::match_broker::Match as MatchMessage;
use sortie_wire::catena::server_manager as wire;

use crate::error::ApiError;

/// The data that is needed to show a match, cheap to copy out of the broker.
pub(crate) struct Shown {
    id: MatchId,
    players: Vec<PlayerId>,
    spec: Arc<MatchSpec>,
}

impl From<&Match> for Shown {
    fn from(game: &Match) -> Self {
        Self { id: game.id.clone(), players: game.players(), spec: Arc::clone(&game.spec) }
    }
}

impl From<Shown> for MatchMessage {
    fn from(shown: Shown) -> Self {
        match_message(&shown.id, &shown.players, &shown.spec)
    }
}

/// A match with its `players`; properties as they were sent.
pub(crate) fn match_message(id: &MatchId, players: &[PlayerId], spec: &MatchSpec) -> MatchMessage {
    let text = |properties: &Properties| properties.text().unwrap_or_default().to_owned();
    let per_player = spec.player_properties.iter();
    MatchMessage {
        match_id: id.as_str().to_owned(),
        player_ids: players.iter().map(|player| player.as_str().to_owned()).collect(),
        match_properties: text(&spec.properties),
        player_properties: per_player
            .map(|(player, properties)| (player.as_str().to_owned(), text(properties)))
            .collect(),
    }
}

/// The order in a match message, and its id if the sender chose one. `path` is the message's path in the request.
pub(crate) fn order(path: &str, message: &MatchMessage) -> Result<(Option<MatchId>, MatchSpec), ApiError> {
    let field = |name: &str| format!("{path}.{name}");
    let id = match message.match_id.as_str() {
        "" => None,
        text => Some(super::id(&field("matchId"), text, MatchId::new)?),
    };
    let mut players = Vec::with_capacity(message.player_ids.len());
    for (index, text) in message.player_ids.iter().enumerate() {
        let player = PlayerId::new(text);
        players
            .push(player.map_err(|problem| ApiError::field(field(&format!("playerIds[{index}]")), problem))?);
    }
    let properties = Properties::parse(&message.match_properties)
        .map_err(|problem| ApiError::field(field("matchProperties"), problem))?;
    let mut player_properties = BTreeMap::new();
    for (player, text) in &message.player_properties {
        let at = |problem: &dyn std::fmt::Display| {
            // The key is the sender's text, of any length.
            let key: String = player.chars().take(sortie_domain::ids::MAX_ID_BYTES).collect();
            ApiError::field(field(&format!("playerProperties[{key:?}]")), problem)
        };
        let id = PlayerId::new(player).map_err(|problem| at(&problem))?;
        player_properties.insert(id, Properties::parse(text).map_err(|problem| at(&problem))?);
    }
    Ok((id, MatchSpec { players, properties, player_properties, ..MatchSpec::default() }))
}

/// Draining servers are shown as full: neither can take another match.
pub(crate) const fn server_state(state: ServerState) -> wire::ServerState {
    match state {
        ServerState::Pending => wire::ServerState::Pending,
        ServerState::Available => wire::ServerState::Available,
        ServerState::Full | ServerState::Draining { .. } => wire::ServerState::Full,
    }
}
