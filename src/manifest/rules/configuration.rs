//! The parameters of an extension.

use super::super::code;
use super::super::diagnostic::Finding;
use super::super::json::{Cursor, Document, Kind, shown};
use super::names;

/// Words in the name of a parameter that mean that its value is a secret.
const SECRET_WORDS: [&str; 8] =
    ["password", "passwd", "secret", "token", "apikey", "api_key", "api-key", "privatekey"];

pub(super) fn check(document: &Document, report: &mut impl FnMut(Finding)) {
    let Some(parameters) = document.cursor().get("config") else { return };
    names::unique(parameters.items(), "name", report);
    for parameter in parameters.items() {
        let Some(name) = parameter.get("name") else { continue };
        let Some(text) = name.text() else { continue };
        let secure = parameter.flag_of("secure");
        let folded = text.to_lowercase();
        if secure == Some(false) && SECRET_WORDS.iter().any(|word| folded.contains(word)) {
            let place =
                parameter.get("secure").map_or_else(|| name.at_value(), |flag| flag.at_value());
            let message = format!(
                "`{}` sounds like a secret, but is kept and shown in the clear",
                shown(text)
            );
            report(
                Finding::warning(code::CONFIG_SECRET_VISIBLE, place, message)
                    .suggest("set `secure` to `true`"),
            );
        }
        let chosen =
            matches!(parameter.text_of("type"), Some("radio" | "picklist" | "multiselect"));
        if chosen && parameter.get("options").is_none_or(|options| options.items().count() == 0) {
            let message =
                format!("`{}` is to be chosen from a list, but has no `options`", shown(text));
            report(
                Finding::warning(code::CONFIG_OPTIONS_MISSING, parameter.at_key(), message)
                    .suggest("add `options`"),
            );
        }
        for key in ["default", "defaultValue"] {
            let value = parameter.get(key).filter(holds_something);
            if let Some(value) = value.filter(|_| secure == Some(true)) {
                let message = "the default of a secret is in the package for everybody to read";
                report(
                    Finding::warning(code::CONFIG_SECRET_DEFAULT, value.at_key(), message)
                        .suggest("remove it"),
                );
            }
        }
    }
}

fn holds_something(value: &Cursor<'_>) -> bool {
    !matches!(value.kind(), Kind::Null) && value.text().is_none_or(|text| !text.is_empty())
}
