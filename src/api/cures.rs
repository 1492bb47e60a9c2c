//! What to do about each refusal: the second half of a problem's page, and the kinds of problems that
//! are more special than their code.

use super::problem::Code;

/// What to do about a refusal with this code, in sentences.
pub(super) const fn cure(code: Code) -> &'static str {
    match code {
        Code::BadRequest => {
            "Look at `detail`: it names the header, or the place in the body where reading ended. Send JSON in UTF-8, each key once."
        }
        Code::EmptyPayload => {
            "Send the body that the route is documented with, and its `Content-Type`."
        }
        Code::Unauthorized => {
            "Send `Authorization: Bearer <token>`. `Zoho-oauthtoken` works below `/webhooks` and `/installedExtensions` only."
        }
        Code::InvalidOauth => {
            "Ask the operator for a new token; `mortise token list` shows which are live. A token belongs to one server."
        }
        Code::SignatureInvalid => {
            "Sign the raw bytes of the body by Standard Webhooks with the secret in force, take a new `webhook-id` for each request, and keep your clock within 5 minutes."
        }
        Code::Forbidden => {
            "Use a token of a role that may do this: the table of routes and roles says which. An extension's webhook is changed by nobody but the extension; `lockedBy` names it."
        }
        Code::ScopeMismatch => {
            "Use a token with the scope that `detail` names, or one that is not narrowed."
        }
        Code::OauthOrgMismatch => "Leave `orgId` out, or name the org that the token is of.",
        Code::LicenseAccessLimited => {
            "Remove what the org does not need, or have the plan changed (`PUT /orgs/{orgId}/plan`)."
        }
        Code::HostNotAllowed => {
            "Vendors: name the host in `whiteListedDomains` or declare its provider as a connector. Operators: `egress.allow` opens private networks."
        }
        Code::UrlNotFound => "Compare the path with `/docs`; paths end without a slash.",
        Code::ResourceNotFound => {
            "Check the id. What belongs to another org or vendor is answered the same, so check whose token it is."
        }
        Code::MethodNotAllowed => "Use one of the methods that `Allow` lists.",
        Code::RequestTimeout => "Send the body without pauses, or a smaller one.",
        Code::Conflict => "Read the object again, apply the change to what it is now, and repeat.",
        Code::VersionConflict => {
            "Raise the version and publish again; a published one never changes."
        }
        Code::StateConflict => {
            "Read the object: its state says which steps are open. `detail` names the one that is in the way."
        }
        Code::ExtensionSuspended => {
            "Wait until whoever suspended it resumes it; `detail` says who that is."
        }
        Code::ConnectionBroken => {
            "Have the connection authorised again: `POST /callbacks/reauthorize` gives the address for the administrator."
        }
        Code::IdempotencyKeyReused => {
            "Take a new `Idempotency-Key` for each new request; repeat one only with the same body."
        }
        Code::RequestInProgress => {
            "Repeat the request after a moment: it is answered once the first one is."
        }
        Code::ResourceSizeExceeded => {
            "Send less at a time; the table of limits has the size for each path."
        }
        Code::UnsupportedMediaType => {
            "Set `Content-Type` to what the route is documented with, mostly `application/json`."
        }
        Code::InvalidData => {
            "Go through `errors[]`: each names a field, its rule, and the nearest known name where one is misspelt."
        }
        Code::UnprocessableEntity => {
            "Go through `errors[]`. For packages `mortise validate` says the same with the lines, and `mortise explain` why."
        }
        Code::InvalidState => {
            "Begin the authorisation anew: a `state` works once and for 10 minutes."
        }
        Code::InstallationRefused => {
            "Read `message`: it is the vendor's reason. Ask the vendor where it is not clear."
        }
        Code::TooManyRequests => {
            "Wait for as long as `Retry-After` says, then repeat. The table of limits has every rate."
        }
        Code::InternalServerError => {
            "Repeat it once. If it stays, tell the operator the `correlationId`: the log has the rest under it."
        }
        Code::ProviderError => {
            "Repeat it later. If it stays, compare the provider's addresses and credentials under `oauth.providers` with the provider's own."
        }
        Code::UpstreamFailed => {
            "Repeat it later; `detail` says how the call ended. `GET /installations/{id}/invocations` lists what was called."
        }
        Code::ServiceUnavailable => {
            "Repeat it after `Retry-After`. Operators: `/health/ready` says what is wrong."
        }
    }
}

/// A kind of problem that has a page of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The last segment of its `type`.
    pub(super) slug: &'static str,
    /// Its code.
    pub(super) code: Code,
    /// When it is answered.
    pub(super) meaning: &'static str,
    /// What to do.
    pub(super) cure: &'static str,
}

/// All kinds besides those that are named as their code.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        slug: "extension-invalid",
        code: Code::UnprocessableEntity,
        meaning: "The package breaks rules; `errors[]` has each with file, line, column and page.",
        cure: "Mend what `errors[]` lists, all at once. `mortise validate` shows the same on your machine.",
    },
    Kind {
        slug: "webhook-locked",
        code: Code::Forbidden,
        meaning: "The webhook belongs to an extension, whatever the role that asks; `lockedBy` names it.",
        cure: "Upgrade or uninstall the extension. What only its vendor may do, such as sending again, its vendor must do.",
    },
    Kind {
        slug: "url-check-failed",
        code: Code::UnprocessableEntity,
        meaning: "The address of a webhook was called before saving, as its dialect demands, and gave no success.",
        cure: "Have the address answer GET and POST with 200, then save again.",
    },
    Kind {
        slug: "consent-settled",
        code: Code::StateConflict,
        meaning: "The upgrade that the consent is to does not wait any more; `consentState` says what became of it.",
        cure: "Show the administrator `waitingUpgrade`, where there is one, and ask anew.",
    },
    Kind {
        slug: "consent-mismatch",
        code: Code::StateConflict,
        meaning: "The consent names another package than the one that waits.",
        cure: "Show the administrator `waitingUpgrade`, and send its digest.",
    },
    Kind {
        slug: "authorization-needed",
        code: Code::StateConflict,
        meaning: "Scopes grow, so that a consent alone is not enough.",
        cure: "Lead the administrator through an authorisation: `POST /callbacks/reauthorize` begins one.",
    },
    Kind {
        slug: "scopes-missing",
        code: Code::UnprocessableEntity,
        meaning: "The administrator granted less than the package declares; nothing was provisioned and the token was revoked.",
        cure: "Authorise again and grant all scopes, or declare fewer.",
    },
];

/// Title, meaning and cure of a problem by the last segment of its `type`.
pub(super) fn by_slug(slug: &str) -> Option<(Code, &'static str, &'static str)> {
    if let Some(kind) = KINDS.iter().find(|kind| kind.slug == slug) {
        return Some((kind.code, kind.meaning, kind.cure));
    }
    let code = Code::ALL.iter().copied().find(|code| code.slug() == slug)?;
    Some((code, code.meaning(), cure(code)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::api::testing::documented;

    /// `docs/errors.md`.
    fn reference() -> String {
        let mut text = String::from(
            "# Errors\n\n\
             Every refusal is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, \
             `detail`, `errorCode`, `message` and `correlationId`; `errors[]` where single fields are \
             wrong, each with `fieldName` (a JSON pointer, or the name of a parameter), `errorType` \
             (`invalid`, `missing`, `duplicate`) and `errorMessage`. `type` is the address of a page \
             that every server has, with what stands here. Quote the `correlationId` when you ask the \
             operator: the log has the rest under it.\n\n\
             This file is written by `UPDATE_DOCS=1 cargo nextest run --lib api::cures`.\n\n\
             | errorCode | status | when |\n| --- | --- | --- |\n",
        );
        // Writing to a text never fails.
        for code in Code::ALL {
            let (name, status) = (code.as_str(), code.status().as_u16());
            let anchor = name.to_ascii_lowercase();
            let _infallible =
                writeln!(text, "| [`{name}`](#{anchor}) | {status} | {} |", code.meaning());
        }
        for code in Code::ALL {
            let _infallible = write!(
                text,
                "\n## {}\n\nStatus {}. {} {}\n",
                code.as_str(),
                code.status().as_u16(),
                code.meaning(),
                cure(*code)
            );
            for kind in KINDS.iter().filter(|kind| kind.code == *code) {
                let _infallible =
                    write!(text, "\n`{}`: {} {}\n", kind.slug, kind.meaning, kind.cure);
            }
        }
        text
    }

    #[test]
    fn every_problem_has_a_page() {
        for code in Code::ALL {
            let (found, meaning, cure) = by_slug(&code.slug()).expect("a page");
            assert_eq!((found, meaning), (*code, code.meaning()));
            assert!(cure.ends_with('.') && cure.len() > 20, "{}", code.as_str());
        }
        assert!(by_slug("no-such-problem").is_none());
    }

    /// A kind that the code answers and nobody described would be a dead address.
    #[test]
    fn every_kind_that_is_answered_is_described() {
        let pattern = regex::Regex::new(r#"\.kind\("([a-z-]+)""#).expect("a pattern");
        let mut answered: Vec<String> = Vec::new();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut waiting = vec![folder];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).expect("a folder");
                waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("a file");
                answered.extend(pattern.captures_iter(&text).map(|found| found[1].to_owned()));
            }
        }
        answered.sort();
        answered.dedup();
        let mut described: Vec<_> = KINDS.iter().map(|kind| kind.slug.to_owned()).collect();
        described.sort();
        assert_eq!(answered, described);
    }

    #[test]
    fn the_documentation_lists_every_code() {
        documented("docs/errors.md", &reference());
    }
}
