//! Gathering: what the file, the variables and the flags say, the stronger over the weaker.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, Fault, Source};
use super::key::{Key, VARIABLE_PREFIX};
use super::settings;
use super::value::Raw;

/// The name of the file that is read where none is named.
pub const USUAL_FILE: &str = "mortise.toml";

/// The variable that names the file, for surroundings without a command line.
pub const FILE_VARIABLE: &str = "MORTISE_CONFIG";

/// Variables with our prefix that are no settings: the file's name, the token of commands that call
/// a server, the crash point of a test build, and the database of a test run.
pub const OTHER_VARIABLES: [&str; 4] =
    [FILE_VARIABLE, "MORTISE_TOKEN", "MORTISE_CRASH_AT", "MORTISE_TEST_POSTGRES_URL"];

/// The most that is read of a configuration file.
const FILE_LIMIT: u64 = 1 << 20;

/// What the configuration is made from.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The file; nothing to read none.
    pub file: Option<PathBuf>,
    /// Environment variables. Those without the prefix `MORTISE_` are not looked at.
    pub variables: Vec<(OsString, OsString)>,
    /// What flags of the command line set: dotted key and value.
    pub overrides: Vec<(String, String)>,
}

impl Inputs {
    /// The inputs of this process: the file that was named, by flag or by `MORTISE_CONFIG`, else
    /// `mortise.toml` of the working folder where that exists; the environment; the flags.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let usual = || Path::new(USUAL_FILE).exists().then(|| PathBuf::from(USUAL_FILE));
        let named = || std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
        let file = file.or_else(|| named().map(PathBuf::from)).or_else(usual);
        Self { file, variables: std::env::vars_os().collect(), overrides }
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        formatter.debug_struct("Inputs").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A value and who gave it.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) raw: Raw,
    pub(crate) source: Source,
}

/// All values that were given for known keys, and what was wrong on the way.
#[derive(Default)]
pub(crate) struct Layers {
    pub(crate) given: BTreeMap<Key, Given>,
    pub(crate) faults: Vec<Fault>,
}

impl Layers {
    /// Reads all inputs.
    pub(crate) fn gather(inputs: &Inputs) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        if let Some(path) = &inputs.file {
            layers.add_file(path, &read(path)?);
        }
        layers.add_variables(&inputs.variables);
        for (key, value) in &inputs.overrides {
            let source = Source::Flag(key.clone());
            layers.add(Key::from(key.as_str()), Raw::Plain(value.clone()), source);
        }
        Ok(layers)
    }

    fn add_file(&mut self, path: &Path, text: &str) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let at = |offset: usize| position(path, text, offset);
        for error in &errors {
            self.faults.push(Fault {
                key: None,
                source: at(error.span().map_or(0, |span| span.start)),
                problem: format!("is not TOML: {}", error.message()),
                nearest: None,
            });
        }
        if errors.is_empty() {
            self.add_table(&Key::new(Vec::new()), document.get_ref(), &at);
        }
    }

    fn add_table(&mut self, prefix: &Key, table: &DeTable<'_>, at: &impl Fn(usize) -> Source) {
        for (name, value) in table {
            let key = prefix.child(name.get_ref());
            let is_setting = settings::find(&key).is_some();
            match value.get_ref() {
                DeValue::Table(inner) if !is_setting => {
                    if inner.is_empty() && settings::below(&key).is_empty() {
                        self.add(key, Raw::Other("table"), at(name.span().start));
                    } else {
                        self.add_table(&key, inner, at);
                    }
                }
                _ => self.add(key, raw_toml(value), at(name.span().start)),
            }
        }
    }

    fn add_variables(&mut self, variables: &[(OsString, OsString)]) {
        let mut ours: Vec<(String, Option<String>)> = variables
            .iter()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_str().map(str::to_owned))
            })
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str()))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let Some(key) = Key::from_variable(&name) else { continue };
            let key = self.with_name_of_file(key);
            let source = Source::Variable(name.clone());
            if let Some(Given { source: Source::Variable(other), .. }) = self.given.get(&key) {
                let problem = format!("is set by the environment variable {other} too");
                self.fault(&key, source, problem, None);
                continue;
            }
            match value {
                Some(value) => self.add(key, Raw::Plain(value), source),
                None => self.fault(&key, source, "is not UTF-8".to_owned(), None),
            }
        }
    }

    /// A variable's name has no case, a provider's in the file has one.
    fn with_name_of_file(&self, key: Key) -> Key {
        let Some(("oauth", "providers", name)) = provider_name(&key) else { return key };
        let in_file = self.given.keys().find_map(|known| match provider_name(known) {
            Some(("oauth", "providers", known)) if known.to_lowercase() == name => {
                Some(known.to_owned())
            }
            _ => None,
        });
        match in_file {
            Some(in_file) => {
                let mut segments = key.segments().to_vec();
                segments[2] = in_file;
                Key::new(segments)
            }
            None => key,
        }
    }

    fn add(&mut self, key: Key, raw: Raw, source: Source) {
        if settings::find(&key).is_some() {
            self.given.insert(key, Given { raw, source });
            return;
        }
        let below = settings::below(&key);
        if below.is_empty() {
            let nearest = settings::nearest(&key).map(|nearest| match &source {
                Source::Variable(_) => nearest.variable(),
                _ => nearest.to_string(),
            });
            self.fault(&key, source, "is not a setting".to_owned(), nearest);
        } else {
            let problem = format!("is a group of settings: {}", below.join(", "));
            self.fault(&key, source, problem, None);
        }
    }

    pub(crate) fn fault(
        &mut self,
        key: &Key,
        source: Source,
        problem: String,
        nearest: Option<String>,
    ) {
        self.faults.push(Fault { key: Some(key.to_string()), source, problem, nearest });
    }
}

fn provider_name(key: &Key) -> Option<(&str, &str, &str)> {
    match key.segments() {
        [first, second, name, _] => Some((first, second, name)),
        _ => None,
    }
}

fn raw_toml(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("integer"), Raw::Integer),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Array(entries) => Raw::List(entries.iter().map(raw_toml).collect()),
        other => Raw::Other(other.type_str()),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: FILE_LIMIT });
    }
    Ok(text)
}

fn position(path: &Path, text: &str, offset: usize) -> Source {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Source::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
