//! How the rooms' errors become problems. The caller's fault is never a 500; a 5xx never shows what
//! is inside.

use std::time::Duration;

use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::upgrades::WaitingUpgradeBody;
use crate::catalogue::CatalogueError;
use crate::event::{Fault, IntakeError, ParseError};
use crate::extension_data::ExtensionDataError;
use crate::invoke::InvokeError;
use crate::lifecycle::LifecycleError;
use crate::oauth::OAuthError;
use crate::webhook::RoutingError;

/// When an install may be tried again after the vendor's validator failed.
const VALIDATOR_PAUSE: Duration = Duration::from_secs(5);

/// When a caller may try again after the database was away.
const SOON: Duration = Duration::from_secs(1);

/// When some of very many authorisations will have ended.
const STATES_END: Duration = Duration::from_mins(1);

impl From<CatalogueError> for Problem {
    fn from(error: CatalogueError) -> Self {
        let text = error.to_string();
        match error {
            CatalogueError::KeyTaken { .. } => Self::new(Code::Conflict).detail(text),
            CatalogueError::VersionExists { digest, .. } => {
                Self::new(Code::VersionConflict).detail(text).with("digest", digest)
            }
            CatalogueError::UnknownExtension { .. } | CatalogueError::UnknownVersion { .. } => {
                Self::new(Code::ResourceNotFound).detail(text)
            }
            CatalogueError::Withdrawn { .. } | CatalogueError::NothingToInstall { .. } => {
                Self::new(Code::StateConflict).detail(text)
            }
            CatalogueError::Store(error) => error.into(),
            CatalogueError::Secrets(error) => error.into(),
            error @ (CatalogueError::Crypto(_) | CatalogueError::Unreadable { .. }) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<LifecycleError> for Problem {
    fn from(error: LifecycleError) -> Self {
        let text = error.to_string();
        match error {
            LifecycleError::Unknown(_) | LifecycleError::UnknownConsent(_) => {
                Self::new(Code::ResourceNotFound).detail(text)
            }
            LifecycleError::Installed { installation, .. } => {
                Self::new(Code::StateConflict).detail(text).with("installationId", installation)
            }
            LifecycleError::ConsentSettled { state, shown, .. } => Self::new(Code::StateConflict)
                .kind("consent-settled", "The upgrade does not wait any more")
                .detail(text)
                .with("consentState", state)
                .with("waitingUpgrade", shown.map(|shown| WaitingUpgradeBody::from(*shown))),
            LifecycleError::ConsentMismatch { shown, .. } => Self::new(Code::StateConflict)
                .kind("consent-mismatch", "Consent is to another package")
                .detail(text)
                .with("waitingUpgrade", WaitingUpgradeBody::from(*shown)),
            LifecycleError::AuthorizationNeeded { .. } => Self::new(Code::StateConflict)
                .kind("authorization-needed", "Only an authorisation is consent")
                .detail(text),
            LifecycleError::RolloutRuns { job, .. } => {
                Self::new(Code::StateConflict).detail(text).with("jobId", job)
            }
            LifecycleError::NotNow { .. }
            | LifecycleError::HeldByOthers { .. }
            | LifecycleError::NotResent(_)
            | LifecycleError::OrgCloses { .. }
            | LifecycleError::PassRuns => Self::new(Code::StateConflict).detail(text),
            LifecycleError::Held { holders, .. } => {
                Self::new(Code::StateConflict).detail(text).with("heldBy", holders)
            }
            LifecycleError::RefusedByVendor { message } => {
                Self::new(Code::InstallationRefused).detail(text).message(message)
            }
            LifecycleError::Unvalidated { .. } | LifecycleError::Outdated => {
                Self::new(Code::ServiceUnavailable).detail(text).retry_after(VALIDATOR_PAUSE)
            }
            LifecycleError::ExtensionSuspended { .. } => {
                Self::new(Code::ExtensionSuspended).detail(text)
            }
            LifecycleError::Invalid { faults } => Self::invalid(
                faults
                    .into_iter()
                    .map(|fault| {
                        FieldError::new(fault.pointer, FieldErrorKind::Invalid, fault.message)
                    })
                    .collect::<Vec<_>>(),
            ),
            LifecycleError::Catalogue(error) => error.into(),
            LifecycleError::OAuth(error) => error.into(),
            LifecycleError::Store(error) => error.into(),
            LifecycleError::Routing(error) => error.into(),
            error @ (LifecycleError::Crypto(_) | LifecycleError::Unreadable { .. }) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<OAuthError> for Problem {
    fn from(error: OAuthError) -> Self {
        let text = error.to_string();
        match error {
            OAuthError::UnknownService { .. } | OAuthError::CodeRefused { .. } => {
                Self::new(Code::UnprocessableEntity).detail(text)
            }
            OAuthError::InvalidState | OAuthError::TargetChanged | OAuthError::WrongIssuer => {
                Self::new(Code::InvalidState).detail(text)
            }
            OAuthError::TooManyStates { .. } => {
                Self::new(Code::TooManyRequests).detail(text).retry_after(STATES_END)
            }
            OAuthError::ScopesMissing { missing } => Self::new(Code::UnprocessableEntity)
                .kind("scopes-missing", "Not all scopes were granted")
                .detail(text)
                .with("missingScopes", missing),
            OAuthError::NoConnection { .. } => Self::new(Code::StateConflict).detail(text),
            OAuthError::Broken { .. } => Self::new(Code::ConnectionBroken).detail(text),
            OAuthError::Unavailable { retry_after, .. } => {
                Self::new(Code::ProviderError).detail(text).retry_after(retry_after)
            }
            OAuthError::Unreachable { .. } => {
                Self::new(Code::ProviderError).detail(text).retry_after(SOON)
            }
            OAuthError::Store(error) => error.into(),
            error @ (OAuthError::Crypto(_) | OAuthError::Unreadable { .. }) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<RoutingError> for Problem {
    fn from(error: RoutingError) -> Self {
        match error {
            RoutingError::Store(error) => error.into(),
            RoutingError::Keys(error) => error.into(),
            error @ (RoutingError::Crypto(_) | RoutingError::Unreadable { .. }) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let text = error.to_string();
        match error {
            IntakeError::NoRoom | IntakeError::TooSlow => {
                Self::new(Code::ServiceUnavailable).detail(text).retry_after(SOON)
            }
            IntakeError::OrgFlood { .. } => {
                Self::new(Code::TooManyRequests).detail(text).retry_after(SOON)
            }
            IntakeError::Store(error) => error.into(),
        }
    }
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        let text = error.to_string();
        match error {
            ParseError::Empty => Self::new(Code::EmptyPayload).detail(text),
            ParseError::Malformed { line, column, .. } => {
                Self::new(Code::BadRequest).detail(text).with("line", line).with("column", column)
            }
            ParseError::TooMany { .. } => Self::new(Code::InvalidData).detail(text),
            ParseError::Faulty(faults) => Self::invalid(
                faults
                    .into_iter()
                    .map(|fault| {
                        let (field, message) = match fault.fault {
                            Fault::Field { field, rule } => {
                                (field, format!("event {}: {field} {rule}", fault.index))
                            }
                            other @ Fault::UnknownType { .. } => {
                                ("eventType", format!("event {}: {other}", fault.index))
                            }
                            Fault::Shape(text) => ("", format!("event {}: {text}", fault.index)),
                        };
                        let pointer = if field.is_empty() {
                            format!("/{}", fault.index)
                        } else {
                            format!("/{}/{field}", fault.index)
                        };
                        FieldError::new(pointer, FieldErrorKind::Invalid, message)
                    })
                    .collect::<Vec<_>>(),
            ),
        }
    }
}

impl From<ExtensionDataError> for Problem {
    fn from(error: ExtensionDataError) -> Self {
        let text = error.to_string();
        match error {
            ExtensionDataError::Invalid { pointer, message } => {
                Self::invalid(vec![FieldError::new(pointer, FieldErrorKind::Invalid, message)])
            }
            ExtensionDataError::Unknown(_) => Self::new(Code::ResourceNotFound).detail(text),
            ExtensionDataError::Full { most, .. } => {
                Self::new(Code::UnprocessableEntity).detail(text).with("limit", most)
            }
            ExtensionDataError::Store(error) => error.into(),
            error @ (ExtensionDataError::Crypto(_) | ExtensionDataError::Unreadable(_)) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<InvokeError> for Problem {
    fn from(error: InvokeError) -> Self {
        let text = error.to_string();
        match error {
            InvokeError::Unproven => Self::new(Code::SignatureInvalid).detail(text),
            InvokeError::Ambiguous(ambiguous) => {
                Self::invalid(vec![FieldError::new(ambiguous.field, FieldErrorKind::Invalid, text)])
            }
            InvokeError::Invalid { field, rule } => {
                Self::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, rule)])
            }
            InvokeError::NotAllowed(_) => Self::new(Code::HostNotAllowed).detail(text),
            InvokeError::ConnectionBroken { connection, .. } => {
                Self::new(Code::ConnectionBroken).detail(text).with("connection", connection)
            }
            InvokeError::TooMany { wait, .. } => {
                Self::new(Code::TooManyRequests).detail(text).retry_after(wait)
            }
            InvokeError::NoAnswer { class, .. } => {
                Self::new(Code::UpstreamFailed).detail(text).with("error", class.as_str())
            }
            InvokeError::Unavailable => {
                Self::new(Code::ServiceUnavailable).detail(text).retry_after(SOON)
            }
            InvokeError::OAuth(error) => error.into(),
            InvokeError::Store(error) => error.into(),
            InvokeError::Routing(error) => error.into(),
            InvokeError::Data(error) => error.into(),
            InvokeError::Lifecycle(error) => error.into(),
            error @ (InvokeError::Crypto(_) | InvokeError::Unreadable(_)) => Self::internal(&error),
        }
    }
}
