//! Reading single settings out of the layers, keeping all faults for one answer.

use super::fault::{Fault, Source};
use super::key::Key;
use super::layers::{Given, Layers};
use super::settings::{self, Fallback, Kind, Setting};
use super::value::{Broken, Raw};

/// A fault was kept: the value is not there, and the caller can go on with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faulted;

/// A value, or none because a fault was kept.
pub(crate) type Read<T> = Result<T, Faulted>;

/// Reads settings; what is wrong is kept, and the caller goes on.
pub(crate) struct Reader {
    layers: Layers,
    warnings: Vec<Fault>,
    #[cfg(test)]
    pub(crate) read: std::collections::BTreeSet<&'static str>,
}

impl Reader {
    pub(crate) fn new(layers: Layers) -> Self {
        Self {
            layers,
            warnings: Vec::new(),
            #[cfg(test)]
            read: std::collections::BTreeSet::new(),
        }
    }

    /// A setting that always has a value.
    pub(crate) fn required<T>(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&Raw, &Kind) -> Result<T, Broken>,
    ) -> Read<T> {
        let key = key.into();
        let setting = self.setting(&key)?;
        let given = match (self.layers.given.get(&key), setting.fallback) {
            (Some(given), _) => given.clone(),
            (None, Fallback::Value(text)) => {
                Given { raw: Raw::Plain(text.to_owned()), source: Source::Default }
            }
            (None, _) => {
                self.fault(&key, self.source_near(&key), "is missing".to_owned());
                return Err(Faulted);
            }
        };
        self.parse(&key, setting, &given, parse)
    }

    /// A setting that may have no value: `None` where it has none. Empty text takes back
    /// what a weaker source said.
    pub(crate) fn optional<T>(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&Raw, &Kind) -> Result<T, Broken>,
    ) -> Read<Option<T>> {
        let key = key.into();
        let setting = self.setting(&key)?;
        match self.layers.given.get(&key).cloned() {
            Some(given) if !given.raw.is_empty_text() => {
                self.parse(&key, setting, &given, parse).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn setting(&mut self, key: &Key) -> Read<&'static Setting> {
        let Some(setting) = settings::find(key) else {
            self.fault(key, Source::Default, "is not in the list of settings".to_owned());
            return Err(Faulted);
        };
        #[cfg(test)]
        self.read.insert(setting.key);
        Ok(setting)
    }

    fn parse<T>(
        &mut self,
        key: &Key,
        setting: &Setting,
        given: &Given,
        parse: impl Fn(&Raw, &Kind) -> Result<T, Broken>,
    ) -> Read<T> {
        parse(&given.raw, &setting.kind).map_err(|more| {
            let rule = setting.kind.rule();
            let problem = if setting.kind.is_secret() || matches!(given.raw, Raw::List(_)) {
                format!("must be {rule}{more}")
            } else {
                format!("is {}, but must be {rule}{more}", given.raw.shown())
            };
            self.fault(key, given.source.clone(), problem);
            Faulted
        })
    }

    /// Who set a key.
    pub(crate) fn source(&self, key: &Key) -> Source {
        self.layers.given.get(key).map_or(Source::Default, |given| given.source.clone())
    }

    /// Who set the first key of the same group: where a missing one would have to stand.
    pub(crate) fn source_near(&self, key: &Key) -> Source {
        let group = &key.segments()[..key.segments().len() - 1];
        let mut neighbours = self.layers.given.iter();
        neighbours
            .find(|(known, _)| known.segments().starts_with(group))
            .map_or(Source::Default, |(_, given)| given.source.clone())
    }

    /// The names that stand where a wildcard does, behind `prefix`.
    pub(crate) fn names_below(&self, prefix: &Key) -> Vec<String> {
        let depth = prefix.segments().len();
        let below =
            self.layers.given.keys().filter(|key| key.segments().starts_with(prefix.segments()));
        let mut names: Vec<String> =
            below.filter_map(|key| key.segments().get(depth).cloned()).collect();
        names.dedup();
        names
    }

    /// Keeps a fault.
    pub(crate) fn fault(&mut self, key: &Key, source: Source, problem: String) {
        self.layers.fault(key, source, problem, None);
    }

    /// Keeps a warning about a key's value.
    pub(crate) fn warn(&mut self, key: impl Into<Key>, problem: impl Into<String>) {
        let key = key.into();
        let source = self.source(&key);
        let problem = problem.into();
        self.warnings.push(Fault { key: Some(key.to_string()), source, problem, nearest: None });
    }

    /// All faults and all warnings.
    pub(crate) fn finish(self) -> (Vec<Fault>, Vec<Fault>) {
        (self.layers.faults, self.warnings)
    }
}
