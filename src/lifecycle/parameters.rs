//! Configuration parameters: checked by the manifest's rules, and apart by what may be shown.

use serde_json::{Map, Value};

use super::error::{FieldFault, LifecycleError};
use crate::manifest::{Parameter, ParameterKind, nearest};

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
    declared: &[Parameter],
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

/// What may be chosen. Real options are plain texts; numbers and objects with a value are taken as
/// meant.
fn option(option: &Value) -> Option<String> {
    match option {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(members) => {
            let text = |key: &str| members.get(key).and_then(Value::as_str).map(str::to_owned);
            text("value").or_else(|| text("name"))
        }
        _ => None,
    }
}

/// Whether a value is of the parameter's type (facts on the reference's manifest, `config[]`).
fn fits(parameter: &Parameter, value: &Value) -> Result<(), String> {
    let options: Vec<String> = parameter.options.iter().filter_map(option).collect();
    let is_option = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| options.is_empty() || options.iter().any(|option| option == text))
    };
    let is_short = |text: &str| text.chars().count() <= LONGEST_TEXT;
    let (is_fit, rule) = match parameter.kind {
        Some(ParameterKind::Number) => (
            value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()),
            "must be a number".to_owned(),
        ),
        Some(ParameterKind::Switch | ParameterKind::Checkbox) => (
            value.is_boolean() || matches!(value.as_str(), Some("true" | "false")),
            "must be true or false".to_owned(),
        ),
        Some(ParameterKind::Radio | ParameterKind::Picklist) => {
            (is_option(value), format!("must be one of: {}", options.join(", ")))
        }
        Some(ParameterKind::Multiselect) => (
            value.as_array().is_some_and(|values| values.iter().all(is_option)),
            format!("must be a list of: {}", options.join(", ")),
        ),
        Some(ParameterKind::Text) | None => (
            value.as_str().is_some_and(is_short),
            format!("must be a text of at most {LONGEST_TEXT} characters"),
        ),
    };
    if is_fit || (value.is_null() && !parameter.mandatory) { Ok(()) } else { Err(rule) }
}
