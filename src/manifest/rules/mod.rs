//! What no schema can say: rules that need more than one place, another file or the policy.

pub(crate) mod address;
mod authorisation;
mod configuration;
mod delivery_wishes;
mod files;
mod leaks;
mod link_names;
mod manifest;
mod names;
mod webhook;

use super::diagnostic::{Finding, Reporter};
use super::json::Document;
use super::policy::Policy;
use super::source::PackageSource;

pub(crate) use authorisation::OWN_SERVICE;

/// Everything that a rule may look at. A file that could not be read to its end is missing.
#[derive(Debug)]
pub(crate) struct Package<'p> {
    pub(crate) source: &'p PackageSource,
    pub(crate) policy: &'p Policy,
    pub(crate) manifest: Option<&'p Document>,
    pub(crate) resources: Option<&'p Document>,
}

/// Runs all rules.
pub(crate) fn run(package: &Package<'_>, reporter: &mut Reporter) {
    files::check(package, reporter);
    if let Some(document) = package.manifest {
        let mut report = |finding: Finding| reporter.report(document, finding);
        manifest::check(package, document, &mut report);
        configuration::check(document, &mut report);
        authorisation::check(package, document, &mut report);
        link_names::check(document, &mut report);
    }
    if let Some(document) = package.resources {
        let mut report = |finding: Finding| reporter.report(document, finding);
        webhook::check(package, document, &mut report);
        delivery_wishes::check(document, &mut report);
        names::check_resources(document, &mut report);
        files::check_channel_logo(package, document, &mut report);
    }
    leaks::check(package, reporter);
}
