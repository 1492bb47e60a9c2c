//! What an attacker would send: each must be told shortly, quickly and honestly.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::seam::Clock;

/// Generous, because tests run unoptimised and side by side; what is quadratic takes minutes.
const PATIENCE: Duration = Duration::from_secs(20);

const MOST: usize = 50;

/// Checks and renders a package in every form, and holds the bounds that hold for all.
fn attacked(source: &PackageSource) -> Checked {
    let clock = Clock::default();
    let started = clock.instant();
    let policy = Policy { most_diagnostics: MOST, ..Policy::strict_offline() };
    let checked = check(source, &policy);
    let text = render_text(&checked.diagnostics, source, false);
    let json = render_json(&checked.diagnostics);
    let sarif = render_sarif(&checked.diagnostics, "");
    let github = render_github(&checked.diagnostics, "");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    assert!(checked.diagnostics.len() <= MOST + 1);
    assert_eq!(github.lines().count(), checked.diagnostics.len());
    for (form, length) in [("text", text.len()), ("json", json.len()), ("sarif", sarif.len())] {
        assert!(length < 1_000_000, "{form} has {length} bytes");
    }
    let steers = |character: char| {
        (character.is_control() && character != '\n')
            || "\u{202e}\u{2066}\u{200b}".contains(character)
    };
    assert!(!text.contains(steers), "{text:?}");
    assert!(!github.contains(steers), "{github:?}");
    let document: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document.get("errors").is_some(), !checked.is_valid());
    checked
}

fn attacked_manifest(text: &str) -> Checked {
    attacked(&PackageSource::from_json(text, "{}"));
    attacked(&PackageSource::from_text(text))
}

/// How many diagnostics the last one says are left out.
fn left_out(checked: &Checked) -> usize {
    let last = checked.diagnostics.last().expect("a diagnostic");
    assert_eq!(last.code, code::REPORT_CUT_SHORT);
    let number = last.message.split(' ').next().expect("a word");
    number.parse().expect("a number")
}

#[test]
fn ten_thousand_keys_of_one_name() {
    let checked = attacked_manifest(&format!("{{{}\"a\":0}}", "\"a\":0,".repeat(10_000)));
    // 10,000 repetitions, seven missing keys and one unknown key; 50 of them are shown.
    assert_eq!(left_out(&checked), 10_000 + 7 + 1 - MOST);
}

#[test]
fn a_megabyte_of_unknown_keys() {
    let mut keys = String::new();
    for number in 0..40_000 {
        let _infallible = write!(keys, "\"subscribtion{number}\":0,");
    }
    let checked = attacked_manifest(&format!("{{{keys}\"storage\":true}}"));
    assert_eq!(left_out(&checked), 40_000 + 6 - MOST);
    // Errors are kept rather than warnings.
    let errors = checked.of_severity(Severity::Error).count();
    assert_eq!(errors, 6 + 1, "six missing keys, and that more is left out");
}

#[test]
fn a_hundred_thousand_faults() {
    let faults = "\"ftp://a\",".repeat(99_000);
    let checked = attacked_manifest(&format!("{{\"whiteListedDomains\":[{faults}\"x\"]}}"));
    assert_eq!(left_out(&checked), 99_001 + 6 - MOST);
    let wrong = "0,".repeat(99_000);
    let checked = attacked_manifest(&format!("{{\"whiteListedDomains\":[{wrong}0]}}"));
    assert_eq!(left_out(&checked), 99_001 + 6 - MOST);
}

#[test]
fn warnings_alone_stay_warnings_however_many_there_are() {
    let mut urls = String::new();
    for number in 0..5_000 {
        let _infallible = write!(urls, "\"D{number}\":0,");
    }
    let manifest = format!(
        "{{\"locale\":[\"en\"],\"service\":\"DESK\",\"storage\":false,\"whiteListedDomains\":[],\
         \"connectors\":[],\"config\":[],\"modules\":{{\"widgets\":[{{\"name\":\"P\",\
         \"url\":\"/app/p.html\",\"other_dc_urls\":{{{urls}\"D\":0}}}}]}}}}"
    );
    let checked = attacked_manifest(&manifest);
    assert!(checked.is_valid());
    assert_eq!(left_out(&checked), 5_001 - MOST);
}

#[test]
fn endless_keys_and_texts() {
    let long = "k".repeat(1_000_000);
    for text in [
        format!("{{\"{long}\":[{}0]}}", "{\"resourceName\":\"a\"},".repeat(20_000)),
        format!("{{\"{long}\":{{\"a\":1,\"a\":1,\"a\":1}}}}"),
        format!("{{\"service\":\"{long}\",\"type\":\"{long}\",\"storage\":\"{long}\"}}"),
        format!("{{\"whiteListedDomains\":[\"https://{long}\",\"https://{{{{{long}}}}}\"]}}"),
        format!("{{\"whiteListedDomains\":[\"https://{}\"]}}", "ä".repeat(500_000)),
        format!("{{\"whiteListedDomains\":[\"https://{}\"]}}", "{{".repeat(500_000)),
        format!("{{\"modules\":{{\"widgets\":[{{\"name\":\"{long}\",\"url\":\"{long}\"}}]}}}}"),
    ] {
        assert!(!attacked_manifest(&text).is_valid());
        let resources = PackageSource::from_json("{}", &text);
        attacked(&resources);
    }
}

#[test]
fn many_scopes_against_a_long_list_of_denied_ones() {
    let denied = |number: usize| format!("Desk.module{number}.{}", ["READ", "*"][number % 2]);
    let policy =
        Policy { denied_scopes: (0..1_000).map(denied).collect(), ..Policy::strict_offline() };
    let list =
        format!("{{\"zohoAuthorisation\":{{\"scope\":[{}0]}}}}", "\"Desk.x.ALL\",".repeat(99_000));
    let joined = format!(
        "{{\"zohoAuthorisation\":{{\"scope\":[\"{}Desk.module7.x\"]}}}}",
        "a,".repeat(1_000_000)
    );
    let clock = Clock::default();
    let started = clock.instant();
    for (text, is_denied) in [(list, false), (joined, true)] {
        let checked = check(&PackageSource::from_json(&text, "{}"), &policy);
        let denied = checked.diagnostics.iter().any(|one| one.code == code::SCOPE_DENIED);
        assert_eq!(denied, is_denied);
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[test]
fn depth_and_numbers() {
    for text in [
        "[".repeat(1_000_000),
        "{\"a\":".repeat(200_000),
        format!("{}{}", "[".repeat(64), "]".repeat(64)),
        format!("{{\"storage\":{}}}", "9".repeat(1_000_000)),
        "{\"storage\":1e99999999999999999999}".to_owned(),
        "{\"storage\":-0.0e-400}".to_owned(),
        format!("{{\"storage\":0.{}1}}", "0".repeat(500_000)),
        "/*".repeat(500_000),
        "//\n".repeat(300_000),
        "\"\\ud800".repeat(100_000),
        "'".repeat(100_000),
        "{\"secret\":".repeat(60) + &"\"secret\":".repeat(10_000),
    ] {
        assert!(!attacked_manifest(&text).is_valid());
    }
}

#[test]
fn many_names_that_nearly_match_many_others() {
    let mut parameters = String::new();
    let mut domains = String::new();
    for number in 0..15_000 {
        let _infallible = write!(parameters, "{{\"name\":\"parameter{number}\"}},");
        let _infallible = write!(domains, "\"https://a.example.com/{{{{parametre{number}}}}}\",");
    }
    let text = format!("{{\"config\":[{parameters}0],\"whiteListedDomains\":[{domains}0]}}");
    assert!(!attacked_manifest(&text).is_valid());
}

#[test]
fn nothing_in_a_package_steers_a_terminal_or_a_workflow() {
    let steering = [
        "\\u001b[2J",
        "\\u009b31m",
        "\\u202e",
        "\\u2066",
        "\\u200b",
        "\\u0007",
        "\\r",
        "\\n::error::",
        "\u{1b}]0;title\u{7}",
        "\u{202e}",
        "\u{2066}",
    ];
    for text in steering {
        for manifest in [
            format!("{{\"service\":\"{text}\",\"type\":\"{text}\",\"{text}\":1}}"),
            format!(
                "{{\"modules\":{{\"widgets\":[{{\"name\":\"{text}\",\"url\":\"{text}\",\"logo\":\"{text}\"}}]}}}}"
            ),
            format!(
                "{{\"whiteListedDomains\":[\"{text}\",\"https://{{{{{text}}}}}\"],\"config\":[{{\"name\":\"x\"}}]}}"
            ),
            format!(
                "{{\"callbackListener\":{{\"{text}\":\"{text}\"}},\"connectors\":[{{\"serviceName\":\"{text}\"}}]}}"
            ),
            format!("{{\"zohoAuthorisation\":{{\"scope\":[\"{text}\",\"{text}\"]}}}}"),
            format!("{{\"locale\":[\"{text}\"]}} {text}"),
            format!("{{\"{text}\" {text}}}"),
            text.to_owned(),
        ] {
            attacked_manifest(&manifest);
        }
        let resources = format!(
            "{{\"webhook\":{{\"url\":\"https://{text}/\",\"ignoreSourceId\":\"{text}\",\
             \"subscriptions\":{{\"{text}\":{{\"{text}\":1}}}}}},\"{text}\":[]}}"
        );
        attacked(&PackageSource::from_json("{}", &resources));
    }
}

#[test]
fn names_of_entries_steer_nothing_either() {
    let secret = ["whsec_", &"Ab".repeat(16)].concat();
    let mut intake = intake::Intake::new(Limits::default());
    for name in [
        "app/a\nb.js",
        "app/\u{1b}[2J.js",
        "app/\u{202e}sj.a",
        "app/\u{202e}a.js",
        "\r\n::error file=x::y.js",
        "../\u{9b}31m",
        "app\\\u{7}",
    ] {
        let entry = intake::Entry { name, kind: intake::EntryKind::File, size: 40, packed: None };
        if intake.admit(&entry) == intake::Admission::Wanted {
            intake.keep(name, secret.clone().into_bytes());
        }
        intake.duplicate(name);
        intake.unreadable(name, "no reason");
    }
    let checked = attacked(&PackageSource::of_intake(intake.close()));
    assert!(checked.diagnostics.iter().any(|one| one.code == code::SECRET_IN_SOURCE));
    assert!(!checked.is_valid());
}
