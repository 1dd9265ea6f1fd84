//! What a waiting player is told, and how often: whenever there is news, and repeated after a while, as a sign of life.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::feedback::{Feedback, Reports};

pub(crate) struct Progress<'a> {
    reports: &'a Reports,
    client_ip: Option<IpAddr>,
    ticks: Interval,
    last: Option<String>,
    /// Deadline of name look-ups for the player.
    until: Instant,
}

impl<'a> Progress<'a> {
    /// Sends to `reports` at least every `period`.
    pub(crate) fn new(
        reports: &'a Reports,
        period: Duration,
        client_ip: Option<IpAddr>,
        until: Instant,
    ) -> Self {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { reports, client_ip, ticks, last: None, until }
    }

    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    pub(crate) const fn wanted(&self) -> bool {
        self.reports.wanted()
    }

    /// Waits until it is time to repeat the last report.
    pub(crate) async fn due(&mut self) {
        self.ticks.tick().await;
    }

    pub(crate) async fn send(&self, feedback: Feedback) {
        self.reports.send(feedback).await;
    }

    /// Reports `text`, unless the player just heard the same: other players taking seats is not news.
    pub(crate) async fn news(&mut self, text: String) {
        if self.last.as_ref() != Some(&text) {
            self.report(text).await;
        }
    }

    pub(crate) async fn report(&mut self, text: String) {
        let told = match self.last {
            None => from_where(self.client_ip, &text),
            Some(_) => text.clone(),
        };
        self.last = Some(text);
        self.ticks.reset();
        self.reports.send(Feedback::ProgressReport(told)).await;
    }
}

/// `text`, with the player's address.
fn from_where(client_ip: Option<IpAddr>, text: &str) -> String {
    client_ip.map_or_else(|| text.to_owned(), |ip| format!("joining from {ip}: {text}"))
}
