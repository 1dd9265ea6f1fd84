//! The statistics as metrics.
//!
//! Built from the statistics of `GET /v1/dispatch/stats`, so that the two cannot differ. The only per-driver metric is
//! what waits for the driver: everything else is a total, because each new driver would be a new series.

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Unit;
use sortie_metrics::{Collector, Samples};

use crate::Dispatch;
use crate::driver::Counted;
use crate::frame::Protocol;
use crate::hub::{DispatchStats, PortStats};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfPort {
    protocol: &'static str,
    port: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfDriver {
    protocol: &'static str,
    port: u16,
    driver: u64,
}

impl OfPort {
    const fn new(port: &PortStats) -> Self {
        Self { protocol: name(port.protocol), port: port.port }
    }
}

const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

#[async_trait]
impl Collector for Dispatch {
    async fn collect(&self, samples: &mut Samples) {
        add_stats(&self.stats().await, samples);
    }
}

fn add_stats(stats: &DispatchStats, samples: &mut Samples) {
    let ports = || stats.ports.iter();
    let of_port =
        |of: fn(&PortStats) -> usize| ports().map(|port| (OfPort::new(port), of(port) as u64)).collect();
    samples.gauges(
        "dispatch_drivers",
        "Connected drivers of each open port",
        None,
        of_port(|port| port.drivers.len()),
    );
    samples.gauges(
        "dispatch_devices",
        "Connected devices of each open port (TCP)",
        None,
        of_port(|port| port.devices),
    );
    let waiting = ports().flat_map(|port| {
        let OfPort { protocol, port: number } = OfPort::new(port);
        let of = move |id| OfDriver { protocol, port: number, driver: id };
        port.drivers.iter().map(move |driver| (of(driver.id), driver.queued_bytes as u64))
    });
    samples.gauges(
        "dispatch_driver_queued",
        "Bytes that wait for a driver",
        Some(Unit::Bytes),
        waiting.collect(),
    );
    samples.gauge(
        "dispatch_queued",
        "Bytes that wait for all drivers",
        Some(Unit::Bytes),
        stats.queued_bytes as u64,
    );
    samples.gauge(
        "dispatch_backlog",
        "Bytes that wait for all devices",
        Some(Unit::Bytes),
        stats.backlog_bytes as u64,
    );
    samples.counter(
        "dispatch_turned_away_devices",
        "Devices that were disconnected at once because there were too many",
        None,
        stats.turned_away_devices,
    );
    add_counters(&stats.total, samples);
}

fn add_counters(total: &Counted, samples: &mut Samples) {
    let bytes = Some(Unit::Bytes);
    samples.counter(
        "dispatch_received",
        "Bytes received from devices, once for each driver",
        bytes.clone(),
        total.received_bytes,
    );
    samples.counter("dispatch_written", "Bytes from drivers to devices", bytes, total.written_bytes);
    let messages = [
        (
            "dispatch_received_messages",
            "Messages from devices, once for each driver",
            total.received_messages,
        ),
        ("dispatch_written_messages", "Messages from drivers to devices", total.written_messages),
        (
            "dispatch_dropped_messages",
            "Datagrams for drivers, dropped for newer ones or because they exceeded a rate",
            total.dropped_messages,
        ),
        (
            "dispatch_refused_messages",
            "Messages from drivers about devices that they do not accept",
            total.refused_messages,
        ),
        (
            "dispatch_unsent_messages",
            "Messages from drivers that the network or the device did not take",
            total.unsent_messages,
        ),
    ];
    for (name, help, value) in messages {
        samples.counter(name, help, None, value);
    }
}
