//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::families::{self, Kind};
use super::{Histogram, Labelled};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A million of a histogram's unit are one of the family's: microseconds and seconds.
const MICROS: f64 = 1_000_000.0;

/// An answer that is being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Writes the head of a family; what is not in the list of families is left out, and a test
    /// notices that.
    fn head(&mut self, name: &str, kind: Kind) -> bool {
        let Some(family) = families::find(name).filter(|family| family.kind == kind) else {
            tracing::error!(name, "a family of metrics is not in the list");
            return false;
        };
        // Writing to a text never fails.
        let _infallible =
            writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {}", family.help, kind.name());
        true
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            let _infallible = write!(self.text, "{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _infallible = writeln!(self.text, " {value}");
    }

    /// Writes a counter without labels.
    pub fn counter(&mut self, name: &str, value: u64) {
        if self.head(name, Kind::Counter) {
            self.line(name, &[], value);
        }
    }

    /// Writes a counter with one label.
    pub fn counters<'l>(
        &mut self,
        name: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'l str, u64)>,
    ) {
        if self.head(name, Kind::Counter) {
            for (text, value) in values {
                self.line(name, &[(label, text)], value);
            }
        }
    }

    /// Writes a family that is counted by label sets.
    pub fn labelled<const LABELS: usize>(
        &mut self,
        name: &str,
        labels: [&str; LABELS],
        counts: &Labelled<LABELS>,
    ) {
        if self.head(name, Kind::Counter) {
            for (texts, value) in counts.get() {
                let pairs: Vec<(&str, &str)> =
                    labels.iter().copied().zip(texts.iter().map(String::as_str)).collect();
                self.line(name, &pairs, value);
            }
        }
    }

    /// Writes a gauge without labels.
    pub fn gauge(&mut self, name: &str, value: f64) {
        if self.head(name, Kind::Gauge) {
            self.line(name, &[], value);
        }
    }

    /// Writes a gauge with one label.
    pub fn gauges<'l>(
        &mut self,
        name: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'l str, f64)>,
    ) {
        if self.head(name, Kind::Gauge) {
            for (text, value) in values {
                self.line(name, &[(label, text)], value);
            }
        }
    }

    /// Writes histograms of spans, which were noted in microseconds.
    pub fn spans<'l>(
        &mut self,
        name: &str,
        histograms: impl IntoIterator<Item = (Option<(&'l str, &'l str)>, &'l Histogram)>,
    ) {
        self.histograms(name, histograms, MICROS);
    }

    /// Writes a histogram of numbers.
    pub fn numbers(&mut self, name: &str, histogram: &Histogram) {
        self.histograms(name, [(None, histogram)], 1.0);
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum beyond 2^53 has more digits than matter")]
    fn histograms<'l>(
        &mut self,
        name: &str,
        histograms: impl IntoIterator<Item = (Option<(&'l str, &'l str)>, &'l Histogram)>,
        unit: f64,
    ) {
        if !self.head(name, Kind::Histogram) {
            return;
        }
        let [bucket, sum, count] = ["bucket", "sum", "count"].map(|end| format!("{name}_{end}"));
        for (label, histogram) in histograms {
            let own: Vec<(&str, &str)> = label.into_iter().collect();
            let cumulative = histogram.cumulative();
            let total = cumulative.last().map_or(0, |(_, so_far)| *so_far);
            for (bound, so_far) in cumulative {
                let bound = match bound {
                    Some(bound) => (bound as f64 / unit).to_string(),
                    None => "+Inf".to_owned(),
                };
                let labels: Vec<(&str, &str)> =
                    own.iter().copied().chain([("le", bound.as_str())]).collect();
                self.line(&bucket, &labels, so_far);
            }
            self.line(&sum, &own, histogram.sum() as f64 / unit);
            self.line(&count, &own, total);
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_the_format_has_it() {
        let histogram = Histogram::new(&[1_000, 2_500_000]);
        for value in [500, 2_000, 9_000_000] {
            histogram.note(value);
        }
        let mut exposition = Exposition::default();
        exposition.counter("mortise_events_accepted_total", 7);
        exposition.gauges("mortise_delivery_breakers", "state", [("op\"en\n", 2.0)]);
        exposition.spans("mortise_delivery_lag_seconds", [(None, &histogram)]);
        exposition.counter("mortise_nobody_knows_total", 1);
        assert_eq!(
            exposition.finish(),
            "# HELP mortise_events_accepted_total Events that were accepted and are on disk.\n\
             # TYPE mortise_events_accepted_total counter\n\
             mortise_events_accepted_total 7\n\
             # HELP mortise_delivery_breakers Webhooks of this node whose breaker is open (paused) or \
             half_open (being probed).\n\
             # TYPE mortise_delivery_breakers gauge\n\
             mortise_delivery_breakers{state=\"op\\\"en\\n\"} 2\n\
             # HELP mortise_delivery_lag_seconds From the acceptance of an event to the first attempt of \
             its delivery.\n\
             # TYPE mortise_delivery_lag_seconds histogram\n\
             mortise_delivery_lag_seconds_bucket{le=\"0.001\"} 1\n\
             mortise_delivery_lag_seconds_bucket{le=\"2.5\"} 2\n\
             mortise_delivery_lag_seconds_bucket{le=\"+Inf\"} 3\n\
             mortise_delivery_lag_seconds_sum 9.0025\n\
             mortise_delivery_lag_seconds_count 3\n"
        );
    }
}
