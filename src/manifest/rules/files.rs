//! What must be in the package, and what manifest and resources say is in it.

use super::super::code;
use super::super::diagnostic::{Finding, Reporter, Severity};
use super::super::json::{Cursor, Document, Place, shown};
use super::super::nearest::Guesses;
use super::super::schema::is_locale;
use super::super::source::{MANIFEST_FILE, RESOURCES_FILE};
use super::super::{Loaded, load};
use super::Package;

/// What the reference takes for an image.
const IMAGE_EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "gif", "svg"];

pub(super) fn check(package: &Package<'_>, reporter: &mut Reporter) {
    if package.source.has_files {
        check_layout(package, reporter);
    }
    let Some(document) = package.manifest else { return };
    let root = document.cursor();
    let mut guesses = Guesses::default();
    for widget in root
        .get("modules")
        .and_then(|modules| modules.get("widgets"))
        .iter()
        .flat_map(Cursor::items)
    {
        for page in widget.get("url").into_iter().chain(
            widget.get("other_dc_urls").iter().flat_map(Cursor::members).map(|(_, page)| page),
        ) {
            if page.text().is_some_and(|text| text.starts_with('/')) {
                check_exists(package, &page, &mut guesses, &mut |finding| {
                    reporter.report(document, finding);
                });
            }
        }
        for key in ["logo", "icon"] {
            if let Some(image) = widget.get(key) {
                check_image(package, &image, &mut guesses, &mut |finding| {
                    reporter.report(document, finding);
                });
            }
        }
    }
    if package.source.has_files {
        check_translations(package, document, reporter);
    }
}

fn check_layout(package: &Package<'_>, reporter: &mut Reporter) {
    let files = &package.source.files;
    let whole = |file: &str| Place { file: file.into(), pointer: String::new(), span: None };
    for name in [MANIFEST_FILE, RESOURCES_FILE] {
        if !files.contains_key(name) {
            let message = format!("the package has no `{name}` at its root");
            let elsewhere = files.keys().find(|path| path.ends_with(&format!("/{name}")));
            let hint = match elsewhere {
                Some(path) => format!(
                    "it is at `{}`: pack what is in that folder, not the folder",
                    shown(path)
                ),
                None if name == RESOURCES_FILE => "add it; `{}` is enough".to_owned(),
                None => "add it".to_owned(),
            };
            reporter.report_file(
                Finding::error(code::PACKAGE_FILE_MISSING, whole(name), message).suggest(hint),
            );
        }
    }
    if !files.keys().any(|path| path.starts_with("app/")) {
        let message = "the package has no files in `app/`";
        let finding = Finding::error(code::PACKAGE_APP_MISSING, whole("app"), message);
        reporter.report_file(finding.suggest("put the pages of the extension there"));
    }
}

fn check_exists(
    package: &Package<'_>,
    path: &Cursor<'_>,
    guesses: &mut Guesses,
    report: &mut impl FnMut(Finding),
) {
    let Some(text) = path.text().filter(|_| package.source.has_files) else { return };
    let name = text.split(['?', '#']).next().unwrap_or(text).trim_start_matches('/');
    if package.source.files.contains_key(name) {
        return;
    }
    let near = guesses.nearest(name, package.source.files.keys().map(String::as_str));
    let message = format!("the package has no file `{}`", shown(text));
    report(Finding::error(code::FILE_MISSING, path.at_value(), message).suggest_if(Some(
        near.map_or_else(
            || "add it".to_owned(),
            |near| format!("did you mean `/{}`?", shown(near)),
        ),
    )));
}

fn check_image(
    package: &Package<'_>,
    image: &Cursor<'_>,
    guesses: &mut Guesses,
    report: &mut impl FnMut(Finding),
) {
    let Some(text) = image.text().filter(|text| !text.is_empty()) else { return };
    let extension = text.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    let is_image = extension.is_some_and(|(_, extension)| {
        IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
    });
    if !is_image {
        let message = format!("`{}` is not an image", shown(text));
        report(
            Finding::error(code::FILE_NOT_AN_IMAGE, image.at_value(), message)
                .suggest("use a .png, .svg, .jpg, .jpeg or .gif file"),
        );
    } else if text.starts_with('/') {
        check_exists(package, image, guesses, report);
    } else {
        let message = format!("`{}` is not a path from the package's root", shown(text));
        report(
            Finding::error(code::FILE_MISSING, image.at_value(), message)
                .suggest(format!("write `/{}`", shown(text.trim_start_matches("./")))),
        );
    }
}

/// The logo of a channel: the facts don't call a missing one a fault, so it is a warning.
pub(super) fn check_channel_logo(
    package: &Package<'_>,
    document: &Document,
    report: &mut impl FnMut(Finding),
) {
    let logo = document.cursor().get("channel").and_then(|channel| channel.get("channelLogoPath"));
    if let Some(logo) = logo.filter(|logo| logo.text().is_some_and(|text| text.starts_with('/'))) {
        let warn = |finding: Finding| finding.severity(Severity::Warning);
        check_exists(package, &logo, &mut Guesses::default(), &mut |finding| report(warn(finding)));
    }
}

fn check_translations(package: &Package<'_>, document: &Document, reporter: &mut Reporter) {
    let mut done = Vec::new();
    for locale in document.cursor().get("locale").iter().flat_map(Cursor::items) {
        let Some(text) = locale.text().filter(|text| is_locale(text) && !done.contains(text))
        else {
            continue;
        };
        done.push(text);
        let path = format!("app/translations/{text}.json");
        if !package.source.files.contains_key(&path) {
            let message = format!("the locale `{text}` has no translations");
            let finding =
                Finding::error(code::LOCALE_TRANSLATION_MISSING, locale.at_value(), message);
            reporter.report(document, finding.suggest(format!("add `{path}`")));
        } else if let Some(loaded) = load(package.source, &path) {
            let Loaded { faults, left_out, positions, .. } = loaded;
            reporter.leave_out(Severity::Warning, left_out);
            for fault in faults {
                let place =
                    Place { file: path.clone(), pointer: fault.pointer, span: Some(fault.span) };
                let finding =
                    Finding::warning(code::LOCALE_TRANSLATION_UNREADABLE, place, fault.message);
                let finding = finding.suggest_if(fault.suggestion);
                reporter.report_at(positions.as_ref(), finding);
            }
        }
    }
}
