//! Configuration parameters: checked by the manifest's rules, and apart by what may be shown.

use serde_json::{Map, Value};

use super::error::{FieldFault, LifecycleError};
use crate::manifest::{ConfigParameter, nearest};

/// The longest text of a parameter.
const LONGEST_TEXT: usize = 8_192;

/// Parameters that passed the rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    /// Those that may be shown.
    pub(super) open: Map<String, Value>,
    /// Those that may not: sealed, never returned.
    pub(super) secure: Map<String, Value>,
}

/// Checks the parameters of a request. Where `is_whole`, mandatory ones must be there; a default
/// counts.
pub(super) fn check(
    given: &Map<String, Value>,
    declared: &[ConfigParameter],
    is_whole: bool,
) -> Result<Parameters, LifecycleError> {
    let mut parameters = Parameters::default();
    let mut faults = Vec::new();
    for (name, value) in given {
        let pointer = format!("/config/{}", name.replace('~', "~0").replace('/', "~1"));
        let mut fault = |message: String| {
            faults.push(FieldFault { pointer: pointer.clone(), message });
        };
        let Some(parameter) = declared.iter().find(|parameter| parameter.name == *name) else {
            let names = declared.iter().map(|parameter| parameter.name.as_str());
            let hint = nearest(name, names)
                .map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
            fault(format!("the extension declares no parameter {name:?}{hint}"));
            continue;
        };
        if let Err(rule) = fits(parameter, value) {
            fault(format!("parameter {name} {rule}"));
            continue;
        }
        let side = if parameter.secure { &mut parameters.secure } else { &mut parameters.open };
        side.insert(name.clone(), value.clone());
    }
    if is_whole {
        for parameter in declared.iter().filter(|parameter| parameter.mandatory) {
            let is_given = given.get(&parameter.name).is_some_and(|value| !value.is_null());
            if !is_given && parameter.default.is_none() {
                faults.push(FieldFault {
                    pointer: "/config".to_owned(),
                    message: format!("parameter {} is mandatory", parameter.name),
                });
            }
        }
    }
    if faults.is_empty() { Ok(parameters) } else { Err(LifecycleError::Invalid { faults }) }
}

/// Whether a value is of the parameter's type (facts on the reference's manifest, `config[]`).
fn fits(parameter: &ConfigParameter, value: &Value) -> Result<(), String> {
    let is_option = |value: &Value| {
        value.as_str().is_some_and(|text| {
            parameter.options.is_empty() || parameter.options.iter().any(|option| option == text)
        })
    };
    let is_short = |text: &str| text.chars().count() <= LONGEST_TEXT;
    let (is_fit, rule) = match parameter.kind.as_str() {
        "number" => (
            value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()),
            "must be a number".to_owned(),
        ),
        "switch" | "checkbox" => (
            value.is_boolean() || matches!(value.as_str(), Some("true" | "false")),
            "must be true or false".to_owned(),
        ),
        "radio" | "picklist" => {
            (is_option(value), format!("must be one of: {}", parameter.options.join(", ")))
        }
        "multiselect" => (
            value.as_array().is_some_and(|values| values.iter().all(is_option)),
            format!("must be a list of: {}", parameter.options.join(", ")),
        ),
        _ => (
            value.as_str().is_some_and(is_short),
            format!("must be a text of at most {LONGEST_TEXT} characters"),
        ),
    };
    if is_fit || (value.is_null() && !parameter.mandatory) { Ok(()) } else { Err(rule) }
}
