//! What a player gets in the end: where to connect, and the connect token.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sortie_domain::broker::model::Seat;
use sortie_domain::time::Timestamp;
use sortie_tokens::{Drawn, TokenSpec, USER_DATA_BYTES, mint};

use crate::desk::Visit;
use crate::error::JoinError;
use crate::options::{GameFleet, GatewayOptions};
use crate::seat_guard::SeatGuard;

/// A seat in a playable match, with everything that its player needs.
pub(crate) struct Admission {
    pub(crate) address: SocketAddr,
    /// The connect token in base64. It lets its bearer in, so it goes only to the player.
    pub(crate) token: String,
    pub(crate) given: Given,
    pub(crate) way: Way,
    /// A guest's key, by which the guest is recognized again.
    pub(crate) player_key: Option<String>,
}

/// What is taken back unless the player hears about it.
pub(crate) enum Given {
    /// A seat: it is released.
    Seat(SeatGuard),
    /// The match of a ticket: its player may ask for it again.
    Ticket(Visit),
}

impl Given {
    /// Called when the player has been told.
    pub(crate) fn keep(self) {
        match self {
            Self::Seat(seat) => seat.keep(),
            Self::Ticket(visit) => visit.over(),
        }
    }
}

/// How a player got a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// A server had the match already.
    Warm,
    /// The player had to wait for a server.
    Cold,
    /// Through a ticket.
    Queue,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Queue => "queue",
        }
    }
}

/// A connect token for `seat`, valid until the seat expires. Its user data begins with the seat's id, for the server to
/// claim.
pub(crate) fn token(
    options: &GatewayOptions,
    fleet: &GameFleet,
    seat: &Seat,
    expires_at: Timestamp,
    address: SocketAddr,
) -> Result<String, JoinError> {
    let mut random = [0; Drawn::BYTES];
    getrandom::fill(&mut random).map_err(|_| JoinError::NoRandomness)?;
    let expires = expires_at.as_millis().div_ceil(1000);
    let timeout = options.token_timeout.as_secs();
    let spec = TokenSpec {
        protocol_id: fleet.protocol_id,
        // The broker's timestamps may be a little behind this clock.
        create_timestamp: unix_seconds().min(expires),
        expire_timestamp: expires,
        timeout_seconds: i32::try_from(timeout).unwrap_or(i32::MAX),
        client_id: seat.client_id,
        server_addresses: vec![address],
        user_data: user_data(seat.id.as_str()),
    };
    let minted = mint(&spec, &Drawn::from_random(&random), fleet.dialect, &options.private_key);
    let token = minted.map_err(|error| {
        tracing::error!(%error, fleet = %fleet.fleet, "cannot mint a connect token");
        JoinError::NoToken
    })?;
    Ok(STANDARD.encode(token))
}

/// Ids are at most half as long as the user data, so none is truncated.
fn user_data(seat: &str) -> [u8; USER_DATA_BYTES] {
    let mut data = [0; USER_DATA_BYTES];
    for (to, from) in data.iter_mut().zip(seat.bytes()) {
        *to = from;
    }
    data
}

/// The time, in seconds since the Unix epoch.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
