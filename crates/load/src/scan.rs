//! The plain way to make matches: for a ticket, look through all others, oldest first, for enough that go with all
//! those chosen so far. It leaves out most of the work: no ids, no events, no widening, and the assignment of parties
//! to teams is not optimized.

use std::time::Duration;

use crate::case::{Case, Wish};
use crate::times::processor;

/// CPU time budget of a scan.
const BUDGET: Duration = Duration::from_secs(2);
/// The window that every ticket allows.
const WINDOW: f64 = 25.0;

/// Duration of scans.
#[derive(Clone, Copy, Debug)]
pub struct Scans {
    /// Tickets for which all others were scanned within two seconds.
    pub tickets: usize,
    /// CPU time per ticket.
    pub each: Duration,
}

/// Scans `waiting` for each of `arrivals`, until the time is up.
pub(crate) fn for_arrivals(case: Case, waiting: &[Wish], arrivals: &[Wish]) -> Scans {
    let begun = processor();
    let (mut tickets, mut matched) = (0, 0);
    for arrival in arrivals {
        matched += usize::from(partners(case, arrival, waiting, |_| true).is_some());
        tickets += 1;
        if processor().saturating_sub(begun) > BUDGET {
            break;
        }
    }
    std::hint::black_box(matched);
    let took = processor().saturating_sub(begun);
    Scans { tickets, each: took / u32::try_from(tickets.max(1)).unwrap_or(u32::MAX) }
}

/// Takes the oldest of a crowd, scans all others, and so on. Returns the share matched and the duration; `None` if that
/// takes too long.
pub(crate) fn crowd(case: Case, wishes: &[Wish]) -> Option<(f64, Duration)> {
    let begun = processor();
    let (mut taken, mut matched) = (vec![false; wishes.len()], 0);
    for (at, wish) in wishes.iter().enumerate() {
        if processor().saturating_sub(begun) > 5 * BUDGET {
            return None;
        }
        if taken.get(at).copied().unwrap_or(true) {
            continue;
        }
        let younger = wishes.get(at + 1..).unwrap_or_default();
        let free = |other: usize| !taken.get(at + 1 + other).copied().unwrap_or(true);
        let Some(found) = partners(case, wish, younger, free) else { continue };
        for index in found.iter().map(|other| at + 1 + other).chain([at]) {
            if let Some(taken) = taken.get_mut(index) {
                *taken = true;
                matched += 1;
            }
        }
    }
    Some((f64::from(matched) / wishes.len().max(1) as f64, processor().saturating_sub(begun)))
}

/// Indexes of others that make a match with `wish`.
fn partners(case: Case, wish: &Wish, others: &[Wish], free: impl Fn(usize) -> bool) -> Option<Vec<usize>> {
    let (mut chosen, mut players) = (Vec::new(), u32::from(wish.players));
    for (index, other) in others.iter().enumerate() {
        let fits = players + u32::from(other.players) <= case.players();
        let goes = || {
            let together = |index: &usize| {
                others.get(*index).is_some_and(|chosen| case.go_together(chosen, other, WINDOW))
            };
            case.go_together(wish, other, WINDOW) && chosen.iter().all(together)
        };
        if fits && free(index) && goes() {
            chosen.push(index);
            players += u32::from(other.players);
        }
        if players == case.players() {
            return Some(chosen);
        }
    }
    None
}
