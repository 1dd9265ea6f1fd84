//! Values that both contracts name alike.

use sortie_domain::matchmaking::model::{TicketEnd, TicketState};
use sortie_domain::matchmaking::settings::ExpirationAction;

/// Names of the states of a ticket.
pub(crate) const STATES: [&str; 10] = [
    "validating",
    "waiting",
    "proposed",
    "finding_server",
    "seating",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
    "on_hold",
];

/// The name of a state.
pub(crate) const fn state_name(state: &TicketState) -> &'static str {
    match state {
        TicketState::Validating(_) => STATES[0],
        TicketState::Waiting => STATES[1],
        TicketState::Proposed { .. } => STATES[2],
        TicketState::FindingServer { .. } => STATES[3],
        TicketState::Seating { .. } => STATES[4],
        TicketState::Over { end: TicketEnd::Completed { .. }, .. } => STATES[5],
        TicketState::Over { end: TicketEnd::Failed { .. }, .. } => STATES[6],
        TicketState::Over { end: TicketEnd::Cancelled(_), .. } => STATES[7],
        TicketState::Over { end: TicketEnd::TimedOut, .. } => STATES[8],
        TicketState::OnHold { .. } => STATES[9],
    }
}

/// The value of `expirationAction` and `expiration_action`.
pub(crate) const fn action_name(action: ExpirationAction) -> &'static str {
    match action {
        ExpirationAction::Drop => "drop",
        ExpirationAction::Minimum => "minimum",
    }
}
