//! The results: medians of the rounds.

use serde::Serialize;

/// The figures of the three relays.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Figures<T> {
    /// (a): no frames.
    pub plain: T,
    /// (b): tokio and tungstenite: read, frame, write.
    pub minimal: T,
    /// The dispatcher.
    pub sortie: T,
}

impl<T> Figures<T> {
    pub(crate) fn map<U>(self, mut to: impl FnMut(T) -> U) -> Figures<U> {
        Figures { plain: to(self.plain), minimal: to(self.minimal), sortie: to(self.sortie) }
    }
}

impl Figures<f64> {
    /// Ratio of the dispatcher to relay (b).
    #[must_use]
    pub fn to_minimal(&self) -> f64 {
        self.sortie / self.minimal
    }

    /// Ratio of the dispatcher to relay (a).
    #[must_use]
    pub fn to_plain(&self) -> f64 {
        self.sortie / self.plain
    }
}

/// Messages one way, over TCP.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Throughput {
    /// From devices to the driver, or the other way.
    pub is_up: bool,
    /// Size of a message, in bytes.
    pub bytes: usize,
    /// Number of devices that send or receive.
    pub devices: usize,
    /// Messages per second.
    pub messages: Figures<f64>,
    /// CPU time of the relay per message, in microseconds.
    pub cpu_micros: Figures<f64>,
}

/// Echoes of 64 bytes, over TCP.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Echo {
    /// Number of devices, each with one echo at a time.
    pub devices: usize,
    /// Median time, in microseconds.
    pub p50_micros: Figures<f64>,
    /// 99th percentile, in microseconds.
    pub p99_micros: Figures<f64>,
    /// Echoes per second.
    pub echoes: Figures<f64>,
    /// CPU time of the relay per echo, in microseconds.
    pub cpu_micros: Figures<f64>,
}

/// Datagrams from a device that sends as many as possible.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Udp {
    /// Size of a datagram, in bytes.
    pub bytes: usize,
    /// Datagrams per second that reached the driver.
    pub received: Figures<f64>,
    /// Share that was lost.
    pub loss: Figures<f64>,
    /// CPU time of the relay per datagram that arrived, in microseconds.
    pub cpu_micros: Figures<f64>,
}

/// Resident memory per connected, silent device, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Memory {
    /// Number of connected devices.
    pub devices: usize,
    /// (b).
    pub minimal: usize,
    /// The dispatcher.
    pub sortie: usize,
    /// The dispatcher, after each device has sent 100 bytes and is silent again.
    pub sortie_after_use: usize,
}

/// Everything that was measured.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct BenchReport {
    /// Messages one way.
    pub throughput: Vec<Throughput>,
    /// Echoes.
    pub echo: Vec<Echo>,
    /// Datagrams.
    pub udp: Vec<Udp>,
    /// Memory.
    pub memory: Option<Memory>,
}

/// The header above rows of [`Throughput`].
pub(crate) const THROUGHPUT: &str = "| | bytes | devices | messages/s (µs CPU each): plain (a) | minimal (b) | sortie | sortie/a | sortie/b |\n\
    |---|---|---|---|---|---|---|---|";
/// The header above rows of [`Echo`].
pub(crate) const ECHO: &str = "| devices | µs to the echo, p50, p99 (µs CPU each): plain (a) | minimal (b) | sortie | p50 sortie/b | p99 sortie/b |\n\
    |---|---|---|---|---|---|";
/// The header above rows of [`Udp`].
pub(crate) const UDP: &str = "| bytes | datagrams/s, loss (µs CPU each): plain (a) | minimal (b) | sortie | received sortie/b |\n\
    |---|---|---|---|---|";

/// One column per relay.
fn columns(texts: &Figures<String>) -> String {
    format!("{} | {} | {}", texts.plain, texts.minimal, texts.sortie)
}

/// Figures of each relay together.
fn zip<T: Copy, U: Copy>(one: &Figures<T>, other: &Figures<U>) -> Figures<(T, U)> {
    Figures {
        plain: (one.plain, other.plain),
        minimal: (one.minimal, other.minimal),
        sortie: (one.sortie, other.sortie),
    }
}

impl Throughput {
    /// A row of a table.
    pub(crate) fn row(&self) -> String {
        let shown =
            zip(&self.messages, &self.cpu_micros).map(|(count, cpu)| format!("{count:.0} ({cpu:.2})"));
        let way = if self.is_up { "up" } else { "down" };
        format!(
            "| {way} | {} | {} | {} | {:.2} | {:.2} |",
            self.bytes,
            self.devices,
            columns(&shown),
            self.messages.to_plain(),
            self.messages.to_minimal()
        )
    }
}

impl Echo {
    /// A row of a table.
    pub(crate) fn row(&self) -> String {
        let shown = zip(&zip(&self.p50_micros, &self.p99_micros), &self.cpu_micros)
            .map(|((p50, p99), cpu)| format!("{p50:.1}, {p99:.1} ({cpu:.2})"));
        format!(
            "| {} | {} | {:.2} | {:.2} |",
            self.devices,
            columns(&shown),
            self.p50_micros.to_minimal(),
            self.p99_micros.to_minimal()
        )
    }
}

impl Udp {
    /// A row of a table.
    pub(crate) fn row(&self) -> String {
        let shown = zip(&zip(&self.received, &self.loss), &self.cpu_micros)
            .map(|((count, loss), cpu)| format!("{count:.0}, {:.1} % ({cpu:.2})", loss * 100.0));
        format!("| {} | {} | {:.2} |", self.bytes, columns(&shown), self.received.to_minimal())
    }
}

impl Memory {
    /// A line for people.
    pub(crate) fn text(&self) -> String {
        format!(
            "resident bytes a device, {} of them idle: minimal (b) {}, sortie {}, after each has sent 100 bytes {}",
            self.devices, self.minimal, self.sortie, self.sortie_after_use
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_as_many_columns_as_their_heads() {
        let figures = Figures { plain: 4.0, minimal: 2.0, sortie: 3.0 };
        let columns = |text: &str| text.lines().next().map(|line| line.matches('|').count());
        let (messages, cpu_micros) = (figures, figures);
        let throughput = Throughput { is_up: true, bytes: 64, devices: 1, messages, cpu_micros };
        assert_eq!(columns(&throughput.row()), columns(THROUGHPUT));
        assert!(throughput.row().ends_with("| 0.75 | 1.50 |"), "{}", throughput.row());
        let (p50_micros, p99_micros, echoes) = (figures, figures, figures);
        let echo = Echo { devices: 1, p50_micros, p99_micros, echoes, cpu_micros };
        assert_eq!(columns(&echo.row()), columns(ECHO));
        let udp = Udp { bytes: 64, received: figures, loss: figures, cpu_micros };
        assert_eq!(columns(&udp.row()), columns(UDP));
    }
}
