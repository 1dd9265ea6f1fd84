//! What a waiting player is told, and how often: whenever there is news, and after a while the same again, so that the
//! player knows that somebody is there.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::feedback::{Feedback, Reports};

pub(crate) struct Progress<'a> {
    reports: &'a Reports,
    client_ip: Option<IpAddr>,
    ticks: Interval,
    last: Option<String>,
    /// Until when names may be looked up for the player.
    until: Instant,
}

impl<'a> Progress<'a> {
    /// Tells `reports` at least every `period`.
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

    /// Waits until it is time to say the same again.
    pub(crate) async fn due(&mut self) {
        self.ticks.tick().await;
    }

    pub(crate) async fn send(&self, feedback: Feedback) {
        self.reports.send(feedback).await;
    }

    /// Reports, unless the player would hear the same again: others taking seats is no news.
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

/// `text`, and for whom it is told.
fn from_where(client_ip: Option<IpAddr>, text: &str) -> String {
    client_ip.map_or_else(|| text.to_owned(), |ip| format!("joining from {ip}: {text}"))
}
