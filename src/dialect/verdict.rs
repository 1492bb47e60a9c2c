//! What an answer means, by its status: a table that each dialect owns.

/// What a status means for the delivery, and for the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// It is tried again by the schedule.
    Retry,
    /// It is tried again by the schedule, or later where the receiver says when.
    RetryWhenAsked,
    /// Trying again would not help: the delivery failed.
    Stop,
    /// The receiver is no more: nothing is sent to the webhook until somebody reactivates it.
    Gone,
}

/// One rule: the statuses from the first to the second, and what they mean.
pub type StatusRule = (u16, u16, Verdict);

/// The table of a dialect. Total: what no rule names has the last word.
#[derive(Clone, Copy, Debug)]
pub struct StatusTable {
    /// The rules; the first that covers a status counts.
    pub rules: &'static [StatusRule],
    /// Every status that no rule covers.
    pub otherwise: Verdict,
    /// No answer at all: refused, reset, too late.
    pub no_answer: Verdict,
}

impl StatusTable {
    /// What a status means.
    pub fn verdict(&self, status: u16) -> Verdict {
        self.rules
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&status))
            .map_or(self.otherwise, |(_, _, verdict)| *verdict)
    }
}

/// The contract's table for `desk` and `standard`, and for lifecycle callbacks: 2xx is success, 410
/// ends the webhook, 429 and 503 are asked when to come back. Redirects are never followed, so
/// they are failures like any other.
pub const DESK: StatusTable = StatusTable {
    rules: &[
        (200, 299, Verdict::Delivered),
        (410, 410, Verdict::Gone),
        (429, 429, Verdict::RetryWhenAsked),
        (503, 503, Verdict::RetryWhenAsked),
    ],
    otherwise: Verdict::Retry,
    no_answer: Verdict::Retry,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_meaning_in_desk() {
        for status in 0..=u16::MAX {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                410 => Verdict::Gone,
                429 | 503 => Verdict::RetryWhenAsked,
                _ => Verdict::Retry,
            };
            assert_eq!(DESK.verdict(status), expected, "{status}");
        }
    }

    #[test]
    fn the_first_rule_that_covers_counts() {
        let table = StatusTable {
            rules: &[(404, 404, Verdict::Retry), (400, 499, Verdict::Stop)],
            otherwise: Verdict::Gone,
            no_answer: Verdict::Retry,
        };
        assert_eq!(table.verdict(404), Verdict::Retry);
        assert_eq!(table.verdict(405), Verdict::Stop);
        assert_eq!(table.verdict(500), Verdict::Gone);
    }
}
