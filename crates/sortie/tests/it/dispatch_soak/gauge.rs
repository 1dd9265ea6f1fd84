//! What the process keeps, and whether it grows.

use std::fmt;
use std::time::Duration;

use crate::memory::resident_kib;
use crate::site::soon;

/// What a process has at one moment.
pub(super) struct Gauge {
    pub(super) resident_kib: u64,
    pub(super) descriptors: usize,
}

impl Gauge {
    pub(super) fn read(pid: i32) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { resident_kib: resident_kib(pid), descriptors }
    }

    /// Once no more than so many descriptors are open: the last connections may still be closing.
    pub(super) async fn settled(pid: i32, descriptors: usize) -> Self {
        let settle = async {
            loop {
                let gauge = Self::read(pid);
                if gauge.descriptors <= descriptors {
                    return gauge;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("as many descriptors as before the load", settle).await
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB resident, {} descriptors", self.resident_kib, self.descriptors)
    }
}

/// How much more the last is than the first, by the line that is nearest to all of them (least squares).
pub(super) fn growth(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (middle, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let places = || (0..values.len()).map(|place| place as f64 - middle);
    let spread: f64 = places().map(|place| place * place).sum();
    if spread == 0.0 {
        return 0.0;
    }
    let slope = places().zip(values).map(|(place, value)| place * (value - mean)).sum::<f64>() / spread;
    slope * (count - 1.0)
}

#[test]
fn growth_is_that_of_the_nearest_line() {
    let near = |values: &[f64], wanted: f64| assert!((growth(values) - wanted).abs() < 1e-9, "{values:?}");
    near(&[], 0.0);
    near(&[7.0], 0.0);
    near(&[1.0, 3.0, 5.0, 7.0], 6.0);
    near(&[7.0, 5.0, 3.0], -4.0);
    near(&[5.0, 9.0, 9.0, 5.0], 0.0);
}
