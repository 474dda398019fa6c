//! Samples and their middle.

use std::time::Duration;

use serde_json::{Value, json};

#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    pub(crate) fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The nearest sample; 0 if there is none.
    fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((q * last as f64).round() as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Beside the floor's.
    pub(crate) fn compared(&self, floor: &Self) -> Value {
        json!({
            "p50_s": self.p50(),
            "p90_s": self.quantile(0.9),
            "floor_p50_s": floor.p50(),
            "floor_p90_s": floor.quantile(0.9),
            "ratio_p50": self.p50() / floor.p50(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        let mut samples = Samples::default();
        assert_eq!(samples.p50(), 0.0);
        for ms in [900, 100, 300] {
            samples.add(Duration::from_millis(ms));
        }
        assert_eq!(samples.p50(), 0.3);
        assert_eq!(samples.quantile(0.9), 0.9);
        assert_eq!(samples.compared(&samples)["ratio_p50"], 1.0);
    }
}
