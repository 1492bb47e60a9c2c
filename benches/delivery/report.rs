//! The figures for people and for programs.

use std::path::Path;

use serde_json::json;

use super::Outcome;
use super::machine::Machine;
use super::measure::Figures;

/// What stands above the lines.
pub(crate) fn print_heading() {
    println!(
        "\n{:<24} {:<30} {:>9} {:>6} {:>20} {:>20} {:>16} {:>5} {:>7} {:>6} {:>11} {:>4} {:>4} {:>4} {:>5}",
        "scenario",
        "part",
        "per s",
        "ratio",
        "sent-arrived",
        "accepted-arrived",
        "CPU srv+db+drv",
        "idle",
        "commits",
        "peak",
        "rows +/~",
        "hot",
        "lost",
        "dup",
        "503"
    );
    println!(
        "{:<24} {:<30} {:>9} {:>6} {:>20} {:>20} {:>16} {:>5} {:>7} {:>6} {:>11} {:>4} {:>4} {:>4} {:>5}",
        "",
        "",
        "",
        "",
        "p50/p95/p99 ms",
        "p50/p95/p99 ms",
        "us a delivery",
        "%",
        "/event",
        "MiB",
        "/event",
        "%",
        "",
        "",
        ""
    );
}

fn three(latencies: [f64; 4]) -> String {
    let [p50, p95, p99, _] = latencies;
    let digits = if p50 < 10.0 { 2 } else { 0 };
    format!("{p50:.digits$}/{p95:.digits$}/{p99:.digits$}")
}

/// One line.
pub(crate) fn print(figures: &Figures) {
    let name = if figures.server == "mortise" {
        figures.scenario.clone()
    } else {
        format!("{} {}", figures.scenario, figures.server)
    };
    println!(
        "{name:<24} {:<30} {:>9.0} {:>6} {:>20} {:>20} {:>16} {:>5.0} {:>7.4} {:>6} {:>11} {:>4.0} {:>4} {:>4} {:>5}",
        figures.part,
        figures.deliveries_per_second,
        figures.ratio_to_bare.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
        three(figures.sent_to_arrival),
        three(figures.accepted_to_arrival),
        format!("{:.1}+{:.1}+{:.1}", figures.cpu_server, figures.cpu_database, figures.cpu_driver),
        figures.idle * 100.0,
        figures.commits_per_event,
        figures.peak_mib,
        format!("{:.2}/{:.2}", figures.rows_inserted_per_event, figures.rows_updated_per_event),
        figures.hot_share * 100.0,
        figures.lost,
        figures.duplicates,
        figures.refused,
    );
    let mut more: Vec<String> = Vec::new();
    if let Some(planned) = figures.planned_to_arrival {
        more.push(format!("planned-arrived {} ms", three(planned)));
        more.push(format!("sent-accepted {} ms", three(figures.sent_to_accepted)));
    }
    more.extend(figures.more.iter().map(|(name, value)| format!("{name} {value}")));
    for (who, part) in [("the hypervisor", figures.stolen), ("other processes", figures.foreign)] {
        if part > 0.03 {
            more.push(format!("{who} TOOK {:.0} % OF THE TIME", part * 100.0));
        }
    }
    if figures.faulty + figures.wrongly_signed > 0 {
        more.push(format!("{} FAULTY, {} WRONGLY SIGNED", figures.faulty, figures.wrongly_signed));
    }
    if !more.is_empty() {
        println!("{:<24} {}", "", more.join(", "));
    }
}

/// The middle of what was measured several times, a line for each.
pub(crate) fn print_medians(all: &[Figures]) {
    let mut seen: Vec<(&str, &str, &str)> = Vec::new();
    println!("\nmedians:");
    for figures in all {
        let key = (figures.scenario.as_str(), figures.part.as_str(), figures.server.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of = |value: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = all
                .iter()
                .filter(|other| {
                    (other.scenario.as_str(), other.part.as_str(), other.server.as_str()) == key
                })
                .map(value)
                .collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        println!(
            "{:<24} {:<30} {:<12} {:>9.0}/s ratio {:.3} p50 {:.2} p99 {:.2} ms CPU {:.1}+{:.1}+{:.1} us",
            figures.scenario,
            figures.part,
            figures.server,
            of(|figures| figures.deliveries_per_second),
            of(|figures| figures.ratio_to_bare.unwrap_or_default()),
            of(|figures| figures.sent_to_arrival[0]),
            of(|figures| figures.sent_to_arrival[2]),
            of(|figures| figures.cpu_server),
            of(|figures| figures.cpu_database),
            of(|figures| figures.cpu_driver),
        );
    }
}

/// Writes all figures to a file.
pub(crate) fn write(
    path: &Path,
    machine: &Machine,
    ceilings: &[(String, f64)],
    all: &[Figures],
) -> Outcome<()> {
    let ceilings: serde_json::Map<_, _> =
        ceilings.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let document = json!({ "machine": machine, "barePerSecond": ceilings, "runs": all });
    std::fs::write(path, serde_json::to_vec_pretty(&document)?)?;
    Ok(())
}
