//! Every family of metrics: its name by Prometheus' conventions, its labels, and what it says.

use std::fmt::Write as _;

/// What kind of family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// The name in the text format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, labels, help }
}

use Kind::{Counter, Gauge, Histogram};

/// All families, in the order of `/metrics`.
pub const FAMILIES: &[Family] = &[
    family("mortise_build_info", Gauge, &["version"], "The version that runs; always 1."),
    family(
        "mortise_node_lease_valid",
        Gauge,
        &[],
        "Whether this node's lease holds: 1, or 0 while it sends nothing.",
    ),
    family("mortise_nodes", Gauge, &[], "Nodes with a live lease, as this one sees it."),
    family(
        "mortise_loop_silence_seconds",
        Gauge,
        &["loop"],
        "How long ago a loop came round; 0 while it waits for work.",
    ),
    family(
        "mortise_events_accepted_total",
        Counter,
        &[],
        "Events that were accepted and are on disk.",
    ),
    family("mortise_events_duplicate_total", Counter, &[], "Events whose id was there before."),
    family(
        "mortise_deliveries_created_total",
        Counter,
        &[],
        "Deliveries that accepted events fanned out to.",
    ),
    family(
        "mortise_delivery_attempts_total",
        Counter,
        &["outcome"],
        "Attempts by what they came to: delivered, retry, failed, stopped, interrupted.",
    ),
    family(
        "mortise_delivery_answers_total",
        Counter,
        &["answer"],
        "Attempts by what came back: a class of statuses, or why nothing did.",
    ),
    family("mortise_delivery_attempt_duration_seconds", Histogram, &[], "How long attempts took."),
    family(
        "mortise_delivery_phase_duration_seconds",
        Histogram,
        &["phase"],
        "How long the phases of attempts took: dns, connect, first_byte (from the start), body.",
    ),
    family(
        "mortise_delivery_lag_seconds",
        Histogram,
        &[],
        "From the acceptance of an event to the first attempt of its delivery.",
    ),
    family("mortise_delivery_in_flight", Gauge, &[], "Requests under way on this node."),
    family(
        "mortise_delivery_queue_depth",
        Gauge,
        &["place"],
        "Deliveries that wait: in this node's memory; in the table (of all nodes, held ones too; counted to 10,000).",
    ),
    family(
        "mortise_delivery_due_webhooks",
        Gauge,
        &[],
        "Webhooks that have something due in the table, of this node's last look.",
    ),
    family(
        "mortise_delivery_oldest_due_seconds",
        Gauge,
        &[],
        "For how long the oldest delivery in the table has been due, of this node's last look.",
    ),
    family(
        "mortise_delivery_breakers",
        Gauge,
        &["state"],
        "Webhooks of this node whose breaker is open (paused) or half_open (being probed).",
    ),
    family(
        "mortise_webhooks",
        Gauge,
        &["health"],
        "Webhooks and callback lanes by health, of all nodes; those that were never called are not counted.",
    ),
    family("mortise_commit_rows", Histogram, &[], "Events and results in a group commit."),
    family("mortise_commit_duration_seconds", Histogram, &[], "How long group commits took."),
    family(
        "mortise_commit_retries_total",
        Counter,
        &[],
        "Group commits that were tried again, since the database could not be written.",
    ),
    family(
        "mortise_http_requests_total",
        Counter,
        &["class"],
        "Answers of the API by class of status.",
    ),
    family(
        "mortise_http_request_duration_seconds",
        Histogram,
        &[],
        "How long the API took to answer; waits of inspectors and listeners are left out.",
    ),
    family("mortise_http_problems_total", Counter, &["code"], "Refusals of the API by code."),
    family(
        "mortise_lifecycle_transitions_total",
        Counter,
        &["command", "to"],
        "Steps of installations by command, and the state that they led to.",
    ),
    family(
        "mortise_reconciler_passes_total",
        Counter,
        &[],
        "Passes of the reconciler on this node.",
    ),
    family(
        "mortise_reconciler_findings_total",
        Counter,
        &["kind"],
        "What the reconciler found, by kind.",
    ),
    family("mortise_reconciler_repaired_total", Counter, &[], "What it repaired."),
    family("mortise_notices_sent_total", Counter, &[], "Notices that notices.url took."),
    family("mortise_notices_failed_total", Counter, &[], "Tries to send a notice that failed."),
    family("mortise_notices_waiting", Gauge, &[], "Notices that wait to be sent, of all nodes."),
    family("mortise_inspected_requests_total", Counter, &[], "Requests that came to inspectors."),
    family(
        "mortise_tapped_deliveries_total",
        Counter,
        &[],
        "Copies of deliveries that were made for listeners.",
    ),
];

/// The family of a name.
pub fn find(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

/// Every name that a query may use: those of histograms with what they end in.
pub fn series_names() -> Vec<String> {
    FAMILIES
        .iter()
        .flat_map(|family| match family.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .iter()
                .map(|end| format!("{}{end}", family.name))
                .collect(),
            Kind::Counter | Kind::Gauge => vec![family.name.to_owned()],
        })
        .collect()
}

/// `docs/metrics.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade from the code. What `/metrics` answers in Prometheus' text format; \
         [OPERATIONS.md](OPERATIONS.md) says how to read it.\n\n\
         | name | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a text never fails.
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.name(),
            labels.join(", "),
            family.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for (place, family) in FAMILIES.iter().enumerate() {
            let name = family.name;
            assert!(name.starts_with("mortise_"), "{name}");
            let is_plain = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            assert!(is_plain, "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            let is_span =
                ["duration", "lag", "oldest", "silence"].iter().any(|word| name.contains(word));
            assert_eq!(name.ends_with("_seconds"), is_span, "{name}: base units");
            assert!(family.labels.len() <= 2, "{name}");
            assert!(
                family.help.ends_with('.') && !family.help.contains(['\n', '\\', '|']),
                "{name}"
            );
            assert!(!FAMILIES[..place].iter().any(|other| other.name == name), "{name}");
        }
    }

    /// What people look at must be there: a dashboard with a name that nobody has is empty.
    #[test]
    fn the_dashboard_and_the_alerts_name_what_there_is() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        let names = series_names();
        let known = regex::Regex::new(r"\bmortise_[a-z0-9_]+").expect("a pattern");
        for file in ["grafana/mortise.json", "alerts.yml"] {
            let text = std::fs::read_to_string(folder.join(file)).expect(file);
            let mut used: Vec<&str> = known.find_iter(&text).map(|found| found.as_str()).collect();
            used.sort_unstable();
            used.dedup();
            assert!(used.len() >= 10, "{file} uses {used:?}");
            for name in used {
                assert!(names.iter().any(|known| known == name), "{file}: nobody has {name}");
            }
        }
        let dashboard = std::fs::read(folder.join("grafana/mortise.json")).expect("the dashboard");
        let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let labels = regex::Regex::new(r"\{([a-z_]+)=|by \(([a-z_, ]+)\)").expect("a pattern");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty(), "{}", panel["title"]);
            for target in targets {
                let query = target["expr"].as_str().expect("a query");
                for found in labels.captures_iter(query) {
                    let listed = found.get(1).or(found.get(2)).expect("one of them").as_str();
                    for label in listed.split(',').map(str::trim) {
                        let is_ours = FAMILIES.iter().any(|family| {
                            family.labels.contains(&label) && query.contains(family.name)
                        });
                        assert!(
                            is_ours || ["le", "job", "instance"].contains(&label),
                            "{query}: {label}"
                        );
                    }
                }
            }
        }
        // Every family of the list is either looked at by the dashboard or by an alert, or says
        // why not by being one of these.
        let both = ["grafana/mortise.json", "alerts.yml"]
            .map(|file| std::fs::read_to_string(folder.join(file)).expect(file))
            .concat();
        for family in FAMILIES {
            assert!(both.contains(family.name), "{} is on no panel and in no alert", family.name);
        }
    }
}
