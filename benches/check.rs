//! How long the package checker takes: `cargo bench --bench check`.
//!
//! Ends with 1 where a package takes longer than it may: 1 ms for an ordinary one, 50 ms for one
//! with a manifest of a megabyte, valid or hostile.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use mortise::manifest::{
    Limits, MANIFEST_FILE, PackageSource, Policy, RESOURCES_FILE, check, render_json, warm_up,
};
use mortise::seam::Clock;

/// As in the program.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Case {
    name: &'static str,
    source: PackageSource,
    limit: Duration,
}

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ticket-mirror").join(name);
    std::fs::read_to_string(path).expect("the sample extension")
}

/// The sample's manifest with its domains replaced, grown to a megabyte.
fn megabyte(domain: impl Fn(usize) -> String) -> String {
    let mut domains = String::new();
    let mut number = 0;
    while domains.len() < 1_000_000 {
        // Writing to a string cannot fail.
        let _infallible = write!(domains, "{}\n    ", domain(number));
        number += 1;
    }
    let domains = domains.trim_end().trim_end_matches(',');
    sample(MANIFEST_FILE).replacen("[\"https://vendor.example\"]", &format!("[{domains}]"), 1)
}

fn cases() -> Vec<Case> {
    let resources = sample(RESOURCES_FILE);
    let ordinary = Duration::from_millis(1);
    let large = Duration::from_millis(50);
    let body = |manifest: &str| PackageSource::from_json(manifest, &resources);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ticket-mirror");
    let packed = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/broken").join(name);
        PackageSource::from_folder(&path.join("package"), &Limits::default()).expect("a package")
    };
    let mut keys = String::new();
    for number in 0..40_000 {
        // Writing to a string cannot fail.
        let _infallible = writeln!(keys, "\"a key that means nothing {number}\": {number},");
    }
    let keys = sample(MANIFEST_FILE).replacen('{', &format!("{{{keys}"), 1);
    vec![
        Case {
            name: "the sample, as a body",
            source: body(&sample(MANIFEST_FILE)),
            limit: ordinary,
        },
        Case {
            name: "the sample, as a folder that was read",
            source: PackageSource::from_folder(&folder, &Limits::default()).expect("the sample"),
            limit: ordinary,
        },
        Case { name: "twenty-five faults", source: packed("twenty-five-faults"), limit: ordinary },
        Case {
            name: "1 MB, valid",
            source: body(&megabyte(|number| format!("\"https://host{number}.example.com/\","))),
            limit: large,
        },
        Case {
            name: "1 MB, every entry wrong",
            source: body(&megabyte(|number| format!("\"ftp://host{number}.example.com/\","))),
            limit: large,
        },
        Case {
            name: "1 MB, every entry of the wrong type",
            source: body(&megabyte(|number| format!("{{\"number\": {number}}},"))),
            limit: large,
        },
        Case { name: "1 MB, unknown keys", source: body(&keys), limit: large },
        Case {
            name: "1 MB, one text on one line, with lines known",
            source: PackageSource::from_text(&format!(
                "{{\"colour\": \"{}\"}}",
                "ä".repeat(500_000)
            )),
            limit: large,
        },
    ]
}

fn main() -> ExitCode {
    let clock = Clock::default();
    let policy = Policy::strict_offline();
    let started = clock.instant();
    warm_up();
    println!(
        "{:<46} {:>10.3} ms",
        "compiling the schemas, once",
        started.elapsed().as_secs_f64() * 1e3
    );
    let mut is_slow = false;
    println!("{:<46} {:>13} {:>13} {:>10}", "package", "median", "slowest", "limit");
    for case in cases() {
        let mut times = Vec::new();
        let whole = clock.instant();
        while times.len() < 5 || (whole.elapsed() < Duration::from_secs(1) && times.len() < 5_000) {
            let started = clock.instant();
            let checked = check(black_box(&case.source), &policy);
            black_box(render_json(&checked.diagnostics));
            times.push(started.elapsed());
        }
        times.sort();
        let median = times[times.len() / 2];
        let milliseconds = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
        println!(
            "{:<46} {:>13} {:>13} {:>10}",
            case.name,
            milliseconds(median),
            milliseconds(times[times.len() - 1]),
            milliseconds(case.limit)
        );
        is_slow |= median > case.limit;
    }
    if is_slow { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
