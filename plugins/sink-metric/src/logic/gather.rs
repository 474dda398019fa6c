use std::collections::BTreeMap;

use witlet_sdk::metric_sink::Family;

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// The samples of one set of labels.
#[derive(Default)]
pub(super) struct Point<'a> {
    pub(super) labels: Labels<'a>,
    pub(super) sum: f64,
    pub(super) count: Option<f64>,
    /// In order, by the value of the label that tells them apart: a bucket's bound, or a quantile.
    pub(super) parts: Vec<(f64, f64)>,
}

/// `part` is the label that tells the samples of one point apart.
pub(super) fn gathered<'a>(family: &'a Family, part: &str) -> Vec<Point<'a>> {
    let mut points: BTreeMap<Labels<'a>, Point<'a>> = BTreeMap::new();
    for sample in &family.samples {
        let all = sample.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let labels: Labels<'a> = all.filter(|(key, _)| *key != part).collect();
        let point = points.entry(labels).or_default();
        match sample.name.strip_prefix(&family.name) {
            Some("_sum") => point.sum = sample.value,
            Some("_count") => point.count = Some(sample.value),
            _ => {
                let of_part = sample.labels.iter().find(|(key, _)| key == part);
                if let Some(at) = of_part.and_then(|(_, text)| number(text)) {
                    point.parts.push((at, sample.value));
                }
            }
        }
    }
    let finish = |(labels, mut point): (Labels<'a>, Point<'a>)| {
        point.parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        Point { labels, ..point }
    };
    points.into_iter().map(finish).collect()
}

/// As Prometheus writes numbers.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        text => text.parse().ok(),
    }
}
