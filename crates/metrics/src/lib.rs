//! The metrics of roles, as text for Prometheus.
//!
//! | where | what |
//! |---|---|
//! | [`Collector`] | a role, which supplies its metrics on request |
//! | [`Metrics`] | all roles of a process, and the text |
//! | [`router`] | `GET /metrics` |
//! | [`description`] | that route as a part of an OpenAPI document |
//!
//! A role is asked at each scrape, and its metrics are built for that scrape only, from the data behind its own API.
//! Counters in a registry would be a second copy of that data: the two would eventually differ, and ports and drivers
//! that are gone would have to be removed again.

mod http;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub use http::{CONTENT_TYPE, PATH, description, router};

/// Prefix of every name.
const PREFIX: &str = "sortie";

/// A role that has metrics.
#[async_trait]
pub trait Collector: Send + Sync {
    /// Adds its current metrics. Names follow Prometheus, without the prefix `sortie_` and without a unit: both are
    /// added. Labels have few values, or values that disappear with what they name.
    async fn collect(&self, samples: &mut Samples);
}

/// The metrics of one scrape.
pub struct Samples(Registry);

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samples")
    }
}

/// Values with their labels, for one metric.
pub type Labelled<L> = Vec<(L, u64)>;

impl Samples {
    fn new() -> Self {
        Self(Registry::with_prefix(PREFIX))
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(as_gauge(value));
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, gauge),
            None => self.0.register(name, help, gauge),
        }
    }

    /// Like [`Samples::gauge`], once per set of labels.
    pub fn gauges<L>(&mut self, name: &str, help: &str, unit: Option<Unit>, values: Labelled<L>)
    where
        L: EncodeLabelSet + Clone + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::<L, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(as_gauge(value));
        }
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, family),
            None => self.0.register(name, help, family),
        }
    }

    /// Like [`Samples::counter`], once per set of labels.
    pub fn counters<L>(&mut self, name: &str, help: &str, unit: Option<Unit>, values: Labelled<L>)
    where
        L: EncodeLabelSet + Clone + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::<L, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, family),
            None => self.0.register(name, help, family),
        }
    }

    /// A duration in seconds, with its fraction, once for each of some labels.
    pub fn durations<L>(&mut self, name: &str, help: &str, values: Vec<(L, Duration)>)
    where
        L: EncodeLabelSet + Clone + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::<L, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value.as_secs_f64());
        }
        self.0.register_with_unit(name, help, Unit::Seconds, family);
    }

    /// How values are distributed, once for each of some labels.
    pub fn histograms<L>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: Vec<(L, Distribution)>,
    ) where
        L: EncodeLabelSet + fmt::Debug + Send + Sync + 'static,
    {
        let histograms = Histograms(values);
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, histograms),
            None => self.0.register(name, help, histograms),
        }
    }

    /// A number that only goes up. Its name gets the suffix `_total`.
    pub fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, counter),
            None => self.0.register(name, help, counter),
        }
    }
}

/// How values are distributed over buckets.
#[derive(Clone, PartialEq, Debug)]
pub struct Distribution {
    /// The upper bound of each bucket, in ascending order, and the number of values in it alone; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all values.
    pub sum: f64,
}

#[derive(Debug)]
struct Histograms<L>(Vec<(L, Distribution)>);

impl<L: EncodeLabelSet + fmt::Debug> EncodeMetric for Histograms<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, Distribution { buckets, sum }) in &self.0 {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_family(labels)?.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The library uses `i64`; no value here comes near its maximum.
fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The collectors of a process. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    collectors: Vec<Arc<dyn Collector>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("collectors", &self.collectors.len()).finish()
    }
}

impl Metrics {
    /// Adds `collector`. Collectors must not use each other's names.
    #[must_use]
    pub fn with(mut self, collector: Arc<dyn Collector>) -> Self {
        self.collectors.push(collector);
        self
    }

    /// The current metrics of all collectors, in the text format of OpenMetrics 1.0, which Prometheus reads.
    ///
    /// # Errors
    /// [`fmt::Error`] if the library refuses to write a value, which would be a bug in a collector.
    pub async fn text(&self) -> Result<String, fmt::Error> {
        let mut samples = Samples::new();
        for collector in &self.collectors {
            collector.collect(&mut samples).await;
        }
        let mut text = String::new();
        encode(&mut text, &samples.0)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;

    struct Well;

    #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
    struct Place {
        name: &'static str,
    }

    #[async_trait]
    impl Collector for Well {
        async fn collect(&self, samples: &mut Samples) {
            samples.gauge("well_depth", "How deep it is", Some(Unit::Other("meters".to_owned())), 12);
            samples.counter("well_buckets", "Drawn since the start", None, 3);
            let places = vec![(Place { name: "a \"quoted\" name" }, 1), (Place { name: "b" }, u64::MAX)];
            samples.gauges("well_frogs", "Frogs in it", None, places);
            samples.counters("well_leaps", "Of frogs", None, vec![(Place { name: "b" }, 5)]);
            let heights = Distribution { buckets: vec![(0.5, 2), (1.0, 0), (f64::INFINITY, 1)], sum: 3.25 };
            samples.durations(
                "well_echo",
                "Of a call",
                vec![(Place { name: "b" }, Duration::from_micros(1_500))],
            );
            samples.histograms(
                "well_jumps",
                "Heights",
                Some(Unit::Seconds),
                vec![(Place { name: "b" }, heights)],
            );
        }
    }

    #[tokio::test]
    async fn collectors_are_asked_at_each_scrape_and_written_as_openmetrics() {
        let text = Metrics::default().with(Arc::new(Well)).text().await.unwrap();
        for line in [
            "# HELP sortie_well_depth_meters How deep it is.",
            "# TYPE sortie_well_depth_meters gauge",
            "# UNIT sortie_well_depth_meters meters",
            "sortie_well_depth_meters 12",
            "# TYPE sortie_well_buckets counter",
            "sortie_well_buckets_total 3",
            r#"sortie_well_frogs{name="a \"quoted\" name"} 1"#,
            "sortie_well_frogs{name=\"b\"} 9223372036854775807",
            "sortie_well_leaps_total{name=\"b\"} 5",
            "sortie_well_echo_seconds{name=\"b\"} 0.0015",
            "# TYPE sortie_well_jumps_seconds histogram",
            r#"sortie_well_jumps_seconds_bucket{le="0.5",name="b"} 2"#,
            r#"sortie_well_jumps_seconds_bucket{le="1.0",name="b"} 2"#,
            r#"sortie_well_jumps_seconds_bucket{le="+Inf",name="b"} 3"#,
            r#"sortie_well_jumps_seconds_sum{name="b"} 3.25"#,
            r#"sortie_well_jumps_seconds_count{name="b"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(Metrics::default().text().await.unwrap(), "# EOF\n");
    }

    #[tokio::test]
    async fn unauthorized_callers_are_refused() {
        let router = router(Metrics::default().with(Arc::new(Well)), |headers| headers.contains_key("known"));
        let ask = async |name: &str| {
            let request = Request::get(PATH).header(name, "x").body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, headers, String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, headers, text) = ask("known").await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, CONTENT_TYPE));
        assert!(text.contains("sortie_well_buckets_total 3"));
        let (status, headers, text) = ask("unknown").await;
        assert_eq!(
            (status, headers["www-authenticate"].to_str().unwrap()),
            (StatusCode::UNAUTHORIZED, "Bearer")
        );
        assert!(text.contains(r#""code":"unauthenticated""#) && !text.contains("sortie_well"), "{text}");
    }
}
