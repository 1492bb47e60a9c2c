//! The reference of all settings, written from the list that the reader uses.

use std::fmt::Write as _;

use super::key::Key;
use super::layers::{FILE_VARIABLE, OTHER_VARIABLES, USUAL_FILE};
use super::settings::{Fallback, SETTINGS};

/// `docs/configuration.md`: every setting with its variable, rule, default and meaning.
pub fn reference() -> String {
    let mut text = format!(
        "# Configuration\n\n\
         <!-- Written from src/config/settings.rs. Do not edit: run `UPDATE_DOCS=1 cargo nextest run --lib config::reference`. -->\n\n\
         Nothing needs to be configured. A value is taken from the strongest of these that has one:\n\n\
         1. a flag of the command line,\n\
         2. an environment variable: `MORTISE_`, the key in upper case, two underscores for each dot,\n\
         3. the file of `--config` or `{FILE_VARIABLE}`, else `{USUAL_FILE}` in the working folder,\n\
         4. the default.\n\n\
         A variable holds a list as values with commas between them, or as JSON. An empty variable \
         takes back what the file says, where a setting can be without a value. The name of a \
         provider is lower case in a variable; it means the provider of the file whose name differs \
         only in case.\n\n\
         An unknown key, an unknown `MORTISE_` variable or a bad value stops the start; all faults are \
         named at once. No settings, and so not looked at, are "
    );
    let others: Vec<String> = OTHER_VARIABLES.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(text, "{}.", others.join(", "));
    let mut group = None;
    for setting in SETTINGS {
        let this = setting.key.rsplit_once('.').map(|(group, _)| group);
        if group != Some(this) {
            let title = this.map_or_else(|| "Server".to_owned(), |name| format!("`{name}`"));
            let _ = writeln!(text, "\n## {title}");
            group = Some(this);
        }
        let default = match setting.fallback {
            Fallback::Value("") => "an empty list".to_owned(),
            Fallback::Value(value) => format!("`{value}`"),
            Fallback::Derived(words) => words.to_owned(),
            Fallback::Nothing => "none".to_owned(),
            Fallback::Required => "none, it must be set".to_owned(),
        };
        let secret =
            if setting.kind.is_secret() { " Never shown in logs or messages." } else { "" };
        let _ = write!(
            text,
            "\n### `{}`\n\n{}{secret}\n\n- Variable: `{}`\n- Value: {}\n- Default: {default}\n",
            setting.key,
            setting.meaning,
            Key::from(setting.key).variable(),
            setting.kind.rule(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
                .expect("a folder");
            std::fs::write(path, reference()).expect("the file is written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/configuration.md is out of date: run `UPDATE_DOCS=1 cargo nextest run --lib config::reference`"
        );
    }
}
