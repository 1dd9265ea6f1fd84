//! Why a ticket still waits: the matchmaker's explanation, as data and in words.

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use sortie_domain::broker::{self, Broker};
use sortie_domain::ids::MatchId;
use sortie_domain::matchmaking::model::{FailCause, LostMatch, Status};
use sortie_domain::matchmaking::words::{
    FINDING_SERVER, ON_HOLD, of_failure, of_ignored, of_requeues, of_rule, of_sizes,
};
use sortie_domain::matchmaking::{
    ByType, ExpectedWait, Explanation, Failure, IgnoredMatches, KeptOut, Refusal, SizeGap,
};

use super::tickets::ticket_id;
use super::{answer, rfc3339};
use crate::auth::Caller;
use crate::names::{STATES, state_name};
use crate::sight::Sight;
use crate::state::Api;

/// `GET /v1/tickets/{id}/explain`
pub(super) async fn explain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let explain = async {
        let (id, sight) = (ticket_id(id)?, Sight::of(&caller)?);
        let sees_all = matches!(sight, Sight::All);
        let (wanted, now) = (id.clone(), api.now());
        let found = api.query_maker(move |maker| {
            let seen = sight.ticket(maker.ticket(&wanted)?)?;
            Some((state_name(&seen.ticket().state), maker.explain(&wanted, now)?))
        });
        let (state, told) = found.await?.ok_or(Refusal::TicketNotFound(id))?;
        let at_broker = match of_broker(&told) {
            Some(match_id) => api.query(move |broker| AtBroker::of(broker, &match_id, sees_all)).await?,
            None => None,
        };
        Ok((StatusCode::OK, ExplanationView::new(state, told, at_broker, sees_all)))
    };
    answer(explain.await)
}

/// The ticket's match if the broker knows more about it: one that waits for a server, or never got one.
fn of_broker(told: &Explanation) -> Option<MatchId> {
    let waits = told.match_id.as_ref().filter(|_| told.status == Status::FindingServer);
    let failed = told.failure.as_ref().filter(|failure| failure.cause != FailCause::Refused);
    waits.or_else(|| failed?.match_id.as_ref()).cloned()
}

/// What the broker knows about a ticket's match, as text.
struct AtBroker {
    summary: String,
    sentences: Vec<String>,
}

impl AtBroker {
    /// Players get no names of servers and fleets, and nothing that is expensive to compute.
    fn of(broker: &Broker, id: &MatchId, sees_all: bool) -> Option<Self> {
        let summary = broker::words::summary(&broker.standing(id)?);
        let sentences = if sees_all {
            broker.explain(id).map(|told| broker::words::sentences(&told, &rfc3339))
        } else {
            broker.losses(id).map(|losses| vec![broker::words::of_losses(&losses)])
        };
        Some(Self { summary, sentences: sentences.unwrap_or_default() })
    }
}

/// An explanation as it is shown. Times are RFC 3339. Values about other tickets cover the oldest ones of the queue.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TicketExplanation")]
pub(super) struct ExplanationView {
    ticket_id: String,
    queue: String,
    #[schemars(extend("enum" = STATES))]
    state: &'static str,
    /// One line.
    summary: String,
    sentences: Vec<String>,
    waited_seconds: f64,
    /// Number of older tickets that wait in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<usize>,
    /// Numbers of other waiting tickets in the queue that were checked, and that were not.
    looked_at: usize,
    not_looked_at: usize,
    /// How many of the checked tickets could be in one match with it.
    in_reach: usize,
    /// Players of the tickets in reach, and its own.
    players_in_reach: usize,
    /// Players of a full match.
    #[serde(skip_serializing_if = "Option::is_none")]
    players_wanted: Option<u32>,
    /// Team size that it asks for now.
    team_wanted: u32,
    /// Rules that keep other tickets out; each ticket counts under the first such rule.
    kept_out: Vec<KeptOutView>,
    /// A rule about this ticket alone that keeps it from being matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<String>,
    /// Whether the search for a match with it is still running.
    searching: bool,
    /// Sizes of the tickets in reach, if they cannot fill the teams although there are enough players.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_gap: Option<SizeGapView>,
    /// The match that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    match_id: Option<String>,
    /// How often it was requeued because no server was available.
    requeues: u32,
    /// The last match from which it was requeued.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<LostView>,
    /// Matches that were ignored in an answer of the hook that forms the queue's matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored_matches: Option<IgnoredView>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// When its demands next relax.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    widens_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// How long tickets of the queue waited lately, as seen by this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    typical_wait: Option<WaitView>,
    /// How much longer the ticket is likely to wait: as long as recent tickets that had already waited as long as it
    /// has.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_wait: Option<ExpectedView>,
}

/// A rule, and how many tickets it keeps out.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeptOut")]
struct KeptOutView {
    rule: String,
    tickets: usize,
    /// Those of them kept out only because a value has another JSON type.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_type: Option<ByTypeView>,
}

/// A property that would be equal except for its JSON type, like `40` and `"40"`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeptOutByType")]
struct ByTypeView {
    property: String,
    /// The ticket's own value and that of another ticket, as JSON texts.
    own: String,
    theirs: String,
    tickets: usize,
}

/// Sizes that cannot fill the teams.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SizeGap")]
struct SizeGapView {
    teams: u32,
    players_per_team: u32,
    /// Tickets in reach, including its own.
    waiting: Vec<SizeView>,
    /// Additional tickets that would fill the teams together with some of those.
    missing: Vec<SizeView>,
}

/// A number of tickets of the same size.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TicketsOfSize")]
struct SizeView {
    players: u16,
    tickets: usize,
}

/// Why a ticket failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TicketFailure")]
struct FailureView {
    /// The stable name.
    cause: &'static str,
    /// The text of the hook or the broker.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// The hook whose answer caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
    /// The match that it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    match_id: Option<String>,
}

/// Matches of a hook that were ignored, each on its own.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IgnoredMatches")]
struct IgnoredView {
    hook: String,
    /// When the last one was ignored.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// How many of the last answer with such matches were ignored.
    count: usize,
    /// The problem with the first of these. Players do not see it, because it may name other tickets.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    /// How many were ignored since the process began.
    total: u64,
}

/// A match for which no server was available.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LostMatch")]
struct LostView {
    match_id: String,
    /// The broker's text.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Percentiles of the wait: p50 and p90.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TicketWait")]
struct WaitView {
    p50_seconds: f64,
    p90_seconds: f64,
}

/// Percentiles of the further wait, p50 and p90, and the number of tickets that they are about; 0 if none waited as
/// long and the ticket gets a match of the waiting tickets when its time is over.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExpectedWait")]
struct ExpectedView {
    p50_seconds: f64,
    p90_seconds: f64,
    tickets: usize,
}

impl ExplanationView {
    fn new(state: &'static str, told: Explanation, at_broker: Option<AtBroker>, sees_all: bool) -> Self {
        let summary = summary(state, &told, at_broker.as_ref());
        let sentences = sentences(&told, at_broker, sees_all);
        let kept_out = told.kept_out.into_iter();
        Self {
            ticket_id: told.ticket.to_string(),
            queue: told.queue.to_string(),
            state,
            summary,
            sentences,
            waited_seconds: told.waited.as_secs_f64(),
            ahead: told.ahead,
            looked_at: told.looked_at,
            not_looked_at: told.not_looked_at,
            in_reach: told.in_reach,
            players_in_reach: told.players_in_reach,
            players_wanted: told.players_wanted,
            team_wanted: told.team_wanted,
            kept_out: kept_out
                .map(|KeptOut { rule, tickets, by_type }| KeptOutView {
                    rule: rule.into(),
                    tickets,
                    by_type: by_type.map(ByTypeView::from),
                })
                .collect(),
            held_by: told.held_by.map(Into::into),
            searching: told.searching,
            size_gap: told.size_gap.map(SizeGapView::from),
            match_id: told.match_id.map(|id| id.to_string()),
            requeues: told.requeues,
            lost: told.lost.as_deref().map(LostView::from),
            ignored_matches: told.ignored.map(|ignored| IgnoredView::new(ignored, sees_all)),
            failure: told.failure.map(FailureView::from),
            widens_at: told.widens_at.map(rfc3339),
            expires_at: told.expires_at.map(rfc3339),
            typical_wait: told.typical_wait.map(|(p50, p90)| WaitView {
                p50_seconds: p50.as_secs_f64(),
                p90_seconds: p90.as_secs_f64(),
            }),
            expected_wait: told.expected_wait.map(|ExpectedWait { seen, p50, p90 }| ExpectedView {
                p50_seconds: p50.as_secs_f64(),
                p90_seconds: p90.as_secs_f64(),
                tickets: seen,
            }),
        }
    }
}

impl From<ByType> for ByTypeView {
    fn from(by_type: ByType) -> Self {
        let ByType { property, own, theirs, tickets } = by_type;
        Self { property: property.into(), own: own.into(), theirs: theirs.into(), tickets }
    }
}

impl From<SizeGap> for SizeGapView {
    fn from(gap: SizeGap) -> Self {
        let sizes = |sizes: Vec<(u16, usize)>| {
            sizes.into_iter().map(|(players, tickets)| SizeView { players, tickets }).collect()
        };
        Self {
            teams: gap.teams,
            players_per_team: gap.team,
            waiting: sizes(gap.sizes),
            missing: sizes(gap.missing),
        }
    }
}

impl IgnoredView {
    fn new(ignored: IgnoredMatches, sees_all: bool) -> Self {
        let IgnoredMatches { hook, at, count, first, total } = ignored;
        let first = sees_all.then_some(first);
        Self { hook: hook.to_string(), at: rfc3339(at), count, first, total }
    }
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        let Failure { cause, detail, hook, match_id } = failure;
        Self {
            cause: cause.name(),
            detail: detail.to_string(),
            hook: hook.map(|hook| hook.to_string()),
            match_id: match_id.map(|id| id.to_string()),
        }
    }
}

impl From<&LostMatch> for LostView {
    fn from(lost: &LostMatch) -> Self {
        Self { match_id: lost.match_id.to_string(), reason: lost.reason.to_string() }
    }
}

fn summary(state: &str, told: &Explanation, at_broker: Option<&AtBroker>) -> String {
    match (state, told.ahead) {
        ("waiting", Some(ahead)) => format!("waiting for other players: {ahead} tickets are older"),
        ("on_hold", _) => ON_HOLD.to_owned(),
        ("validating", _) => "a hook checks the ticket".to_owned(),
        ("proposed", _) => "a match was found; its players or a hook have yet to accept it".to_owned(),
        ("finding_server", _) => match at_broker {
            Some(known) => format!("a match was found; {}", known.summary),
            None => FINDING_SERVER.to_owned(),
        },
        ("seating", _) => "it is getting free seats of a running match".to_owned(),
        ("completed", _) => "its players can connect".to_owned(),
        ("timed_out", _) => "no match was found in time".to_owned(),
        (over, _) => match told.cancelled {
            Some(cause) => format!("the ticket is {over}: {}", cause.text()),
            None => format!("the ticket is {over}"),
        },
    }
}

/// What a ticket waits for, or why it failed.
fn sentences(told: &Explanation, at_broker: Option<AtBroker>, sees_all: bool) -> Vec<String> {
    let mut sentences = match told.ahead {
        Some(_) => waiting(told),
        None => Vec::new(),
    };
    sentences.extend(told.ignored.as_ref().map(|ignored| of_ignored(ignored, sees_all)));
    if told.requeues > 0 && told.failure.is_none() {
        sentences.push(of_requeues(told.requeues, told.lost.as_deref()));
    }
    sentences.extend(told.failure.as_ref().map(of_failure));
    sentences.extend(told.match_id.as_ref().map(|id| format!("It is in the match {id}.")));
    sentences.extend(at_broker.map(|known| known.sentences).into_iter().flatten());
    sentences
}

/// What a waiting ticket waits for.
fn waiting(told: &Explanation) -> Vec<String> {
    let mut sentences = vec![match told.players_wanted {
        Some(wanted) => format!(
            "{} players are in reach, including its own; a full match has {wanted}, and it asks for teams of {} now.",
            told.players_in_reach, told.team_wanted
        ),
        None => format!("{} players are in reach, including its own.", told.players_in_reach),
    }];
    if let Some(rule) = &told.held_by {
        sentences.push(format!("The rule `{rule}` keeps the ticket from being matched for now."));
    }
    if told.searching {
        sentences.push("Not all of their combinations have been tried yet; the search continues.".to_owned());
    }
    sentences.extend(told.size_gap.as_ref().map(of_sizes));
    sentences.extend(told.kept_out.iter().map(of_rule));
    if told.not_looked_at > 0 {
        sentences.push(format!("{} younger tickets were not checked.", told.not_looked_at));
    }
    if let Some(at) = told.widens_at {
        sentences.push(format!("At {} its demands relax.", rfc3339(at)));
    }
    if let Some(at) = told.expires_at {
        sentences.push(format!("At {} its wait reaches the queue's maximum.", rfc3339(at)));
    }
    if let Some((p50, p90)) = told.typical_wait {
        let (p50, p90) = (p50.as_secs_f64(), p90.as_secs_f64());
        sentences.push(format!(
            "Lately half of the tickets waited at most {p50:.1} s, nine in ten at most {p90:.1} s."
        ));
    }
    if let Some(ExpectedWait { seen, p50, p90 }) = told.expected_wait {
        let (p50, p90) = (p50.as_secs_f64(), p90.as_secs_f64());
        sentences.push(if seen == 0 {
            format!("No ticket waited as long lately; in {p90:.1} s it gets a match of the waiting tickets.")
        } else {
            format!(
                "Of {seen} that had waited as long as it has, half got a match within {p50:.1} s more, nine in ten \
                 within {p90:.1} s."
            )
        });
    }
    sentences
}
