//! What an answer means, by its status: a table that each dialect owns.

use std::time::Duration;

/// What a status means for the delivery, and for the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// It is tried again by the schedule.
    Retry,
    /// It is tried again by the schedule, or later where the receiver says when.
    RetryWhenAsked,
    /// It is tried again only where the receiver says when, and that is within
    /// [`SOON`]; else trying again would not help.
    RetryOnlyWhenAskedSoon,
    /// Trying again would not help: the delivery failed.
    Stop,
    /// The receiver is no more: nothing is sent to the webhook until somebody reactivates it.
    Gone,
}

/// The longest wait that [`Verdict::RetryOnlyWhenAskedSoon`] goes along with.
pub const SOON: Duration = Duration::from_mins(1);

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
    /// The most attempts in all of a delivery that got an answer, however many the schedule has.
    pub most_attempts_answered: Option<usize>,
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
    most_attempts_answered: None,
};

/// As Zendesk retries: three times after 409, and after 429 and 503 that name a wait of less than a
/// minute; five times after no answer. Nothing that an endpoint answers ends the webhook.
pub const ZENDESK: StatusTable = StatusTable {
    rules: &[
        (200, 299, Verdict::Delivered),
        (409, 409, Verdict::Retry),
        (429, 429, Verdict::RetryOnlyWhenAskedSoon),
        (503, 503, Verdict::RetryOnlyWhenAskedSoon),
    ],
    otherwise: Verdict::Stop,
    no_answer: Verdict::Retry,
    most_attempts_answered: Some(4),
};

/// DZDESK's page: 2xx is delivered, 4xx is final, 5xx and timeouts are retried.
pub const DZDESK: StatusTable = StatusTable {
    rules: &[(200, 299, Verdict::Delivered), (400, 499, Verdict::Stop)],
    otherwise: Verdict::Retry,
    no_answer: Verdict::Retry,
    most_attempts_answered: None,
};

/// Zoho Assist's page says nothing of answers: what holds for the desk dialect holds here.
pub const ASSIST: StatusTable = DESK;

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
            most_attempts_answered: None,
        };
        assert_eq!(table.verdict(404), Verdict::Retry);
        assert_eq!(table.verdict(405), Verdict::Stop);
        assert_eq!(table.verdict(500), Verdict::Gone);
    }

    #[test]
    fn client_errors_are_final_where_the_dialect_says_so() {
        for status in 400..=499 {
            assert_eq!(DZDESK.verdict(status), Verdict::Stop, "{status}");
        }
        for status in [300, 302, 500, 502, 503, 599] {
            assert_eq!(DZDESK.verdict(status), Verdict::Retry, "{status}");
        }
        assert_eq!(DZDESK.verdict(204), Verdict::Delivered);
        assert_eq!(DZDESK.no_answer, Verdict::Retry);
    }

    #[test]
    fn zendesk_retries_its_own_statuses_and_ends_no_webhook() {
        for status in 0..=u16::MAX {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                409 => Verdict::Retry,
                429 | 503 => Verdict::RetryOnlyWhenAskedSoon,
                _ => Verdict::Stop,
            };
            assert_eq!(ZENDESK.verdict(status), expected, "{status}");
        }
        assert_eq!(ZENDESK.no_answer, Verdict::Retry);
    }
}
