//! What the steps of the story have in common: calls in somebody's name, waiting for a fact, and
//! showing a request as the vendor got it.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::DemoError;
use super::client::Content;
use super::narrator::Narrator;
use super::stage::Demo;
use crate::development::{Received, Secrets};

/// How long a fact may take to come true.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often is looked for it.
const LOOK: Duration = Duration::from_millis(50);
/// How much of a long value is shown.
const SHOWN: usize = 44;

/// In whose name a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// May everything.
    Operator,
    /// Installs and uninstalls.
    Marketplace,
    /// Posts events.
    Host,
    /// Publishes, and owns the extension.
    Vendor,
    /// The administrator of the org.
    Admin,
}

impl Who {
    /// The role's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Marketplace => "marketplace",
            Self::Host => "host",
            Self::Vendor => "vendor",
            Self::Admin => "admin",
        }
    }
}

/// The stage, the narrator, and who may do what.
pub(super) struct Scene<'s, 'w> {
    pub(super) demo: &'s Demo,
    pub(super) say: &'s mut Narrator<'w>,
    pub(super) tokens: Vec<(Who, String)>,
    pub(super) secrets: Secrets,
}

impl Scene<'_, '_> {
    /// Makes a call, shows it, and ends the story where the status is another one.
    pub(super) async fn call(
        &mut self,
        who: Who,
        method: Method,
        path: &str,
        content: Content,
        expected: u16,
    ) -> Result<Value, DemoError> {
        let name = method.as_str().to_owned();
        let answer = self.demo.client.call(self.token(who), method, path, content).await?;
        self.say.call(who.name(), &name, path, answer.status)?;
        if answer.status == expected {
            return Ok(answer.body);
        }
        let got = format!("status {}: {}", answer.status, answer.body);
        Err(self.say.unkept(format!("status {expected} for {name} {path}"), got))
    }

    /// Reads a path without showing the call.
    pub(super) async fn look(&self, who: Who, path: &str) -> Result<Value, DemoError> {
        let method = Method::GET;
        let answer = self.demo.client.call(self.token(who), method, path, Content::Nothing).await?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let got = format!("status {}: {}", answer.status, answer.body);
        Err(self.say.unkept(format!("status 200 for GET {path}"), got))
    }

    /// Looks at a path until what it says is as wanted; gives back the last that it said, with
    /// whether it is.
    pub(super) async fn look_until(
        &self,
        who: Who,
        path: &str,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<(Value, bool), DemoError> {
        let clock = &self.demo.seam.clock;
        let end = clock.instant() + PATIENCE;
        loop {
            let seen = self.look(who, path).await?;
            let is_there = is_wanted(&seen);
            if is_there || clock.instant() >= end {
                return Ok((seen, is_there));
            }
            clock.sleep(LOOK).await;
        }
    }

    /// Waits for a fact outside of the server.
    pub(super) async fn until(&self, fact: impl Fn() -> bool) -> bool {
        let clock = &self.demo.seam.clock;
        let end = clock.instant() + PATIENCE;
        while !fact() {
            if clock.instant() >= end {
                return false;
            }
            clock.sleep(LOOK).await;
        }
        true
    }

    /// Waits until the vendor got so many requests of a kind; gives all of them back, which are at
    /// least as many.
    pub(super) async fn arrived(
        &self,
        what: &str,
        wanted: usize,
        is_it: impl Fn(&Received) -> bool,
    ) -> Result<Vec<Arc<Received>>, DemoError> {
        let found = self.demo.vendor.wait_where(wanted.max(1), PATIENCE, is_it).await;
        found.map_err(|error| self.say.unkept(what, error.to_string()))
    }

    /// The token of a role; none before they are made.
    pub(super) fn token(&self, who: Who) -> Option<&str> {
        let found = self.tokens.iter().find(|(known, _)| *known == who);
        found.map(|(_, token)| token.as_str())
    }

    /// Shows a request as the vendor got it: the address masked, the headers, the body.
    pub(super) fn show_request(&mut self, received: &Received) -> Result<(), DemoError> {
        let address = received.masked_target();
        self.say.field("request", format_args!("{} {address}", received.method))?;
        for name in
            ["webhook-id", "webhook-timestamp", "webhook-signature", "X-ZDesk-JWT", "User-Agent"]
        {
            if let Some(value) = received.header(name) {
                self.say.field(name, shortened(value))?;
            }
        }
        let body = String::from_utf8_lossy(&received.body);
        let short: String = body.chars().take(300).collect();
        let rest = if short.len() < body.len() { " …" } else { "" };
        self.say.field("body", format_args!("{short}{rest}"))
    }

    /// Checks the token of a request against the published keys; gives back its claims.
    pub(super) async fn verify_jwt(&self, received: &Received) -> Result<Value, String> {
        let token = received.header("X-ZDesk-JWT").ok_or("there is no X-ZDesk-JWT")?;
        let path = "/.well-known/jwks.json";
        let answer = self.demo.client.call(None, Method::GET, path, Content::Nothing).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let keys: JwkSet =
            serde_json::from_value(answer.body).map_err(|error| error.to_string())?;
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        let key = header.kid.as_deref().and_then(|id| keys.find(id)).ok_or("its key is unknown")?;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation);
        decoded.map(|decoded| decoded.claims).map_err(|error| error.to_string())
    }
}

fn shortened(value: &str) -> String {
    let length = value.chars().count();
    if length <= SHOWN * 2 {
        return value.to_owned();
    }
    let short: String = value.chars().take(SHOWN).collect();
    format!("{short}… ({length} characters)")
}

/// A text within a document, by its JSON pointer; empty where there is none.
pub(super) fn text(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
