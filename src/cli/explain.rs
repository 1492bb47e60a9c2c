//! `mortise explain`: the page of a rule of the package checker.

use clap::Args;

use super::output::{CliError, Exit, Output};
use crate::manifest::{codes, explain, nearest};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the rule was explained, or all rules were listed
  2  there is no such rule")]
pub(crate) struct Arguments {
    /// The rule's code, such as `webhook.scope-missing`; left out, all codes are listed
    code: Option<String>,
}

/// Prints the page, or the codes.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let Some(code) = &arguments.code else {
        for code in codes() {
            output.answer(code)?;
        }
        return Ok(Exit::Success);
    };
    let Some(page) = explain(code) else {
        let error = CliError::unusable(format_args!("there is no rule `{code}`"));
        return Err(error.hint(match nearest(code, codes()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`mortise explain` lists all rules".to_owned(),
        }));
    };
    output.answer(page.trim_end())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::kept;
    use super::*;

    #[test]
    fn pages_are_printed_and_codes_listed() {
        let (mut output, answers, messages) = kept();
        let of = |code: &str| Arguments { code: Some(code.to_owned()) };
        assert_eq!(run(&of("json.empty"), &mut output).expect("a page"), Exit::Success);
        assert!(answers.text().starts_with("# json.empty\n"));
        run(&Arguments { code: None }, &mut output).expect("a list");
        assert!(answers.text().contains("\nwebhook.org-type\n"));
        let error = run(&of("json.emtpy"), &mut output).expect_err("no such rule");
        assert_eq!(output.report(&error), Exit::Unusable);
        assert!(messages.text().contains("did you mean `json.empty`?"));
    }
}
