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

/// The parameters that an installation takes along into another version, and those that are given
/// with the upgrade. What the version does not declare is left behind, and so is a secret that
/// the version would show.
pub(super) fn carry(
    former: &Parameters,
    given: &Map<String, Value>,
    declared: &[Parameter],
) -> Result<Parameters, LifecycleError> {
    let mut values = Map::new();
    for parameter in declared {
        let name = &parameter.name;
        let hidden = former.secure.get(name).filter(|_| parameter.secure);
        if let Some(value) = hidden.or_else(|| former.open.get(name)) {
            values.insert(name.clone(), value.clone());
        }
    }
    values.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut carried = check(&values, declared, true)?;
    carried.open.retain(|_, value| !value.is_null());
    carried.secure.retain(|_, value| !value.is_null());
    Ok(carried)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::CheckedPackage;

    fn declared(config: &Value) -> Vec<Parameter> {
        let manifest = json!({
            "locale": ["en"], "service": "DESK", "storage": false, "whiteListedDomains": [],
            "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
            "connectors": [], "config": config,
        });
        let package = CheckedPackage::from_stored(&manifest, &json!({}));
        package.expect("a package").manifest.parameters
    }

    fn one(name: &str, mandatory: bool, secure: bool) -> Value {
        json!({ "name": name, "userdefined": true, "type": "text", "mandatory": mandatory, "secure": secure })
    }

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn what_is_declared_is_carried_and_a_secret_is_never_shown() {
        let former = Parameters {
            open: map(&json!({ "kept": "a", "gone": "b", "hides": "c" })),
            secure: map(&json!({ "secret": "d", "shown": "e" })),
        };
        let declared = declared(&json!([
            one("kept", false, false),
            one("hides", false, true),
            one("secret", true, true),
            one("shown", false, false),
            one("new", true, false),
        ]));
        let given = map(&json!({ "new": "f" }));
        let carried = carry(&former, &given, &declared).expect("it fits");
        assert_eq!(Value::Object(carried.open), json!({ "kept": "a", "new": "f" }));
        assert_eq!(Value::Object(carried.secure), json!({ "hides": "c", "secret": "d" }));

        let missing = carry(&former, &Map::new(), &declared).expect_err("it is mandatory");
        assert!(missing.to_string().contains("new is mandatory"), "{missing}");
        let cleared = map(&json!({ "new": "f", "kept": null }));
        let carried = carry(&former, &cleared, &declared).expect("it fits");
        assert!(!carried.open.contains_key("kept"));
    }
}
