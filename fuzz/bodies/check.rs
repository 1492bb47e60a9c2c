//! Any bytes as a manifest, and split in two as manifest and resources: parser, schemas, rules and
//! renderings never panic, and what they call valid has a typed view that compares equal to itself.

use mortise::manifest::{
    Limits, PackageSource, Policy, Provisioned, Severity, check, diff, render_github, render_json,
    render_sarif, render_text,
};

/// One input.
pub(super) fn run(bytes: &[u8]) {
    let policy = Policy::strict_offline();
    let mut sources = Vec::new();
    sources.extend(PackageSource::from_bytes(bytes, &Limits::default()).ok());
    let text = String::from_utf8_lossy(bytes);
    let (manifest, resources) = text.split_once('\u{1}').unwrap_or((&text, "{}"));
    sources.push(PackageSource::from_json(manifest, resources));
    for source in sources {
        let checked = check(&source, &policy);
        let errors = checked.of_severity(Severity::Error).count();
        assert_eq!(checked.is_valid(), errors == 0);
        let shown = render_text(&checked.diagnostics, &source, false);
        let annotations = render_github(&checked.diagnostics, "");
        for text in [&shown, &annotations] {
            let steers = |one: char| (one.is_control() && one != '\n') || one == '\u{202e}';
            assert!(!text.contains(steers));
        }
        assert_eq!(annotations.lines().count(), checked.diagnostics.len());
        for one in &checked.diagnostics {
            assert!(!one.message.is_empty() && one.suggestion.is_some());
            assert_eq!(one.line.is_some(), one.column.is_some());
        }
        for document in [render_json(&checked.diagnostics), render_sarif(&checked.diagnostics, "")]
        {
            assert!(serde_json::from_str::<serde_json::Value>(&document).is_ok());
        }
        if let Some(package) = checked.package {
            assert!(diff(&Provisioned::of(&package), &package).is_empty());
        }
    }
}
