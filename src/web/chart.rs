//! Charts as plain geometry: bars of attempts, and the phases of one attempt. The templates draw
//! them as SVG.

use crate::seam::Timestamp;

/// The size of a chart, in its own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 96.0;

const HOUR_MILLIS: i64 = 3_600_000;

/// The attempts of a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) succeeded: i64,
    pub(super) failed: i64,
}

/// A bar: what succeeded, and on top of it what failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) good_y: String,
    pub(super) good_height: String,
    pub(super) bad_y: String,
    pub(super) bad_height: String,
    pub(super) bucket: Bucket,
    /// When its span began.
    pub(super) began: String,
}

/// A chart of attempts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    /// The highest bar.
    pub(super) most: i64,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    /// When the first span began, and the last.
    pub(super) from: String,
    pub(super) to: String,
}

impl Chart {
    /// A moment of the chart as people read it before the script says it in their zone: an hour, or
    /// the day of UTC.
    pub(super) fn label(moment: &str, is_day: bool) -> &str {
        moment.get(if is_day { 0..10 } else { 11..16 }).unwrap_or(moment)
    }

    /// The bars with anything in them.
    pub(super) fn filled(&self) -> impl Iterator<Item = &Bar> {
        self.bars.iter().filter(|bar| bar.bucket != Bucket::default())
    }

    /// Whether there is anything to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.most == 0
    }

    /// So many spans of so many hours, the last of them being the one that has begun. `hours` are
    /// moments at which hours began, with their attempts.
    pub(super) fn new(
        hours: &[(Timestamp, Bucket)],
        now: Timestamp,
        spans: usize,
        hours_each: i64,
    ) -> Self {
        let span_millis = hours_each * HOUR_MILLIS;
        let last = now.millis().div_euclid(span_millis);
        let first = last - i64::try_from(spans).unwrap_or(i64::MAX) + 1;
        let mut buckets = vec![Bucket::default(); spans];
        for (began, bucket) in hours {
            let place = began.millis().div_euclid(span_millis) - first;
            let Ok(place) = usize::try_from(place) else { continue };
            let Some(sum) = buckets.get_mut(place) else { continue };
            sum.succeeded = sum.succeeded.saturating_add(bucket.succeeded);
            sum.failed = sum.failed.saturating_add(bucket.failed);
        }
        let all = |bucket: &Bucket| bucket.succeeded.saturating_add(bucket.failed);
        let most = buckets.iter().map(all).max().unwrap_or(0);
        let at = |place: i64| {
            Timestamp::from_millis((first + place).saturating_mul(span_millis)).rfc3339()
        };
        let bars = (0_i64..)
            .zip(&buckets)
            .map(|(place, bucket)| bar(*bucket, place, spans, most, at(place)));
        Self {
            bars: bars.collect(),
            most,
            succeeded: buckets.iter().map(|bucket| bucket.succeeded).sum(),
            failed: buckets.iter().map(|bucket| bucket.failed).sum(),
            from: at(0),
            to: at(last - first),
        }
    }
}

/// A number of the drawing.
fn drawn(value: f64) -> String {
    format!("{value:.2}")
}

#[expect(clippy::cast_precision_loss, reason = "pixels of a drawing")]
fn bar(bucket: Bucket, place: i64, spans: usize, most: i64, began: String) -> Bar {
    let step = WIDTH / spans.max(1) as f64;
    let height = |count: i64| {
        if count == 0 {
            return 0.0;
        }
        // What is there is seen, however small it is beside the rest.
        (count as f64 / most.max(1) as f64 * HEIGHT).max(2.0)
    };
    let (good, bad) = (height(bucket.succeeded), height(bucket.failed));
    // Two that are both lifted to be seen must not stand out of the drawing.
    let good = good.min(HEIGHT - bad);
    Bar {
        x: drawn(place as f64 * step + 1.0),
        width: drawn((step - 2.0).max(1.0)),
        good_y: drawn(HEIGHT - good),
        good_height: drawn(good),
        bad_y: drawn(HEIGHT - good - bad),
        bad_height: drawn(bad),
        bucket,
        began,
    }
}

/// A phase of an attempt, as a part of a bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// The class of its colour.
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) width: String,
    /// How long it took, for people.
    pub(super) length: String,
}

/// The phases of an attempt in microseconds: name resolution, connecting, from the start to the
/// first byte, and the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phases {
    pub(super) dns: Option<u32>,
    pub(super) connect: Option<u32>,
    pub(super) first_byte: Option<u32>,
    pub(super) body: Option<u32>,
}

impl Phases {
    /// The parts of the bar, one after the other.
    pub(super) fn parts(self) -> Vec<Phase> {
        let dns = self.dns.unwrap_or(0);
        let connect = self.connect.unwrap_or(0);
        let before = dns.saturating_add(connect);
        let waiting = self.first_byte.map_or(0, |first| first.saturating_sub(before));
        let parts = [
            ("Name", "phase-name", self.dns.map(|_| dns)),
            ("Connection", "phase-connection", self.connect.map(|_| connect)),
            ("Waiting", "phase-waiting", self.first_byte.map(|_| waiting)),
            ("Answer", "phase-answer", self.body),
        ];
        let all: u32 =
            parts.iter().filter_map(|(_, _, micros)| *micros).fold(0, u32::saturating_add);
        let mut x = 0.0;
        parts
            .into_iter()
            .filter_map(|(name, class, micros)| Some((name, class, micros?)))
            .map(|(name, class, micros)| {
                let width = f64::from(micros) / f64::from(all.max(1)) * WIDTH;
                let phase = Phase {
                    name,
                    class,
                    x: drawn(x),
                    width: drawn(width),
                    length: super::parts::duration(f64::from(micros) / 1_000.0),
                };
                x += width;
                phase
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_millis(hour * HOUR_MILLIS)
    }

    #[test]
    fn hours_fall_into_their_span_and_others_are_left_out() {
        let one = Bucket { succeeded: 1, failed: 0 };
        let hours = [(at(100), one), (at(77), one), (at(76), one), (at(101), one)];
        let chart = Chart::new(&hours, Timestamp::from_millis(100 * HOUR_MILLIS + 5), 24, 1);
        assert_eq!((chart.bars.len(), chart.succeeded, chart.most), (24, 2, 1));
        assert_eq!((chart.bars[0].bucket, chart.bars[23].bucket), (one, one));
        let days = Chart::new(&hours, at(100), 30, 24);
        // Hours 96 to 119 are the day that has begun, 72 to 95 the one before.
        assert_eq!((days.bars[29].bucket.succeeded, days.bars[28].bucket.succeeded), (2, 2));
        assert_eq!((days.filled().count(), chart.filled().count()), (2, 2));
        assert_eq!(Chart::label(&chart.to, false), "04:00");
        assert_eq!(Chart::label(&days.to, true), "1970-01-05");
    }

    #[test]
    fn what_is_there_is_seen_and_stays_in_the_drawing() {
        let hours = [(at(5), Bucket { succeeded: 1_000_000, failed: 1 })];
        let chart = Chart::new(&hours, at(5), 24, 1);
        let bar = &chart.bars[23];
        let number = |text: &str| text.parse::<f64>().unwrap();
        assert!(number(&bar.bad_height) >= 2.0);
        assert!(number(&bar.bad_y) >= 0.0 && number(&bar.good_y) <= HEIGHT);
        assert!((number(&bar.good_height) + number(&bar.bad_height) - HEIGHT).abs() < 0.1);
        assert!(Chart::new(&[], at(5), 24, 1).is_empty());
    }

    #[test]
    fn phases_fill_the_bar_without_counting_anything_twice() {
        let phases = Phases {
            dns: Some(1_000),
            connect: Some(2_000),
            first_byte: Some(8_000),
            body: Some(2_000),
        };
        let parts = phases.parts();
        let lengths: Vec<_> = parts.iter().map(|part| part.length.as_str()).collect();
        assert_eq!(lengths, ["1.0 ms", "2.0 ms", "5.0 ms", "2.0 ms"]);
        let width: f64 = parts.iter().map(|part| part.width.parse::<f64>().unwrap()).sum();
        assert!((width - WIDTH).abs() < 0.1, "{width}");
        assert!(Phases::default().parts().is_empty());
        let kept = Phases { first_byte: Some(0), ..Phases::default() };
        assert_eq!(kept.parts()[0].width, "0.00");
    }
}
