//! The steps of the story, in their order.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::DemoError;
use super::client::Content;
use super::narrator::Narrator;
use super::sample::{self, CALLBACKS, HOOK, KEY, NAME, ORG, SECRET, VENDOR, VERSION};
use super::scene::{Scene, Who, text};
use super::stage::Demo;
use crate::crypto::{SecretText, desk_hash};
use crate::development::{Behaviour, Browser, Check, Decision, Received, Secrets, verify};

const STEPS: usize = 12;

/// Who may do what, for whoever goes on playing.
#[derive(Debug)]
pub(super) struct Cast {
    tokens: Vec<(Who, String)>,
    secrets: Secrets,
}

/// Tells all steps.
pub(super) async fn tell(demo: &Demo, say: &mut Narrator<'_>) -> Result<Cast, DemoError> {
    say.begin(STEPS);
    let mut scene = Scene {
        demo,
        say,
        tokens: vec![(Who::Operator, demo.operator.clone())],
        secrets: Secrets { manifest: Some(SECRET.to_owned()), ..Secrets::default() },
    };
    scene.tokens().await?;
    scene.refused_package().await?;
    scene.publish().await?;
    let installed = scene.install().await?;
    scene.authorize(&installed).await?;
    let webhook = scene.webhook().await?;
    let context = scene.delivery(&webhook).await?;
    scene.refused_edit(&webhook).await?;
    scene.no_match().await?;
    scene.retry().await?;
    let call = scene.invoke(&context).await?;
    scene.uninstall(&installed, call).await?;
    Ok(Cast { tokens: scene.tokens, secrets: scene.secrets })
}

/// What an installation is known by.
struct Installed {
    id: String,
    start_url: String,
}

impl Scene<'_, '_> {
    async fn tokens(&mut self) -> Result<(), DemoError> {
        self.say.step("Everybody gets a token of their own role")?;
        for (who, bound) in [
            (Who::Marketplace, json!({})),
            (Who::Host, json!({})),
            (Who::Vendor, json!({ "vendor": VENDOR })),
            (Who::Admin, json!({ "orgId": ORG })),
        ] {
            let mut request = json!({ "role": who.name(), "name": "demo" });
            if let (Some(request), Some(bound)) = (request.as_object_mut(), bound.as_object()) {
                request.extend(bound.clone());
            }
            let content = Content::Json(request);
            let made =
                self.call(Who::Operator, Method::POST, "/api/v1/tokens", content, 201).await?;
            self.tokens.push((who, text(&made, "/token")));
        }
        let path = "/api/v1/webhooks";
        let answer = self.demo.client.call(None, Method::GET, path, Content::Nothing).await?;
        self.say.call("nobody", "GET", path, answer.status)?;
        self.say.check("without a token there is no way in", answer.status == 401, || {
            format!("status {}", answer.status)
        })
    }

    async fn refused_package(&mut self) -> Result<(), DemoError> {
        self.say.step("A package with mistakes is refused, all of them at once")?;
        let zip = Content::Zip(self.demo.broken_package()?);
        let refused =
            self.call(Who::Vendor, Method::POST, "/api/v1/extensions/validate", zip, 422).await?;
        let errors = refused["errors"].as_array().cloned().unwrap_or_default();
        for error in &errors {
            let place = ["/file", "/line", "/column"].map(|part| text(error, part)).join(":");
            self.say.field(&text(error, "/code"), place)?;
            self.say.field("", text(error, "/message"))?;
            if !error["suggestion"].is_null() {
                self.say.field("", format_args!("help: {}", text(error, "/suggestion")))?;
            }
        }
        let codes: Vec<String> = errors.iter().map(|error| text(error, "/code")).collect();
        let have_places = errors.iter().all(|error| error["line"].is_u64());
        self.say.check(
            "both mistakes are named, each with its file, line and column",
            errors.len() == 2 && have_places,
            || codes.join(", "),
        )
    }

    async fn publish(&mut self) -> Result<(), DemoError> {
        self.say.step("The vendor publishes the sample extension")?;
        let zip = Content::Zip(self.demo.package()?);
        let path = format!(
            "/api/v1/extensions?key={KEY}&name={}&version={VERSION}&vendor={VENDOR}",
            NAME.replace(' ', "%20")
        );
        let published = self.call(Who::Vendor, Method::POST, &path, zip, 201).await?;
        self.say.field("digest", text(&published, "/digest"))?;
        self.say.field("scopes it needs", text(&published, "/requiredScopes"))?;
        let stored =
            self.look(Who::Vendor, &format!("/api/v1/extensions/{KEY}/versions/{VERSION}")).await?;
        self.say.check(
            "its secret is cut out and sealed, and nowhere to be read",
            !stored.to_string().contains(SECRET),
            || "the secret in the stored manifest".to_owned(),
        )?;
        let path = format!("/api/v1/extensions/{KEY}/signing-secret");
        let secret = text(
            &self.call(Who::Vendor, Method::GET, &path, Content::Nothing, 200).await?,
            "/secret",
        );
        self.say.check(
            "the vendor has a secret to check deliveries with",
            secret.starts_with("whsec_"),
            || "none".to_owned(),
        )?;
        self.secrets.signing = vec![secret];
        Ok(())
    }

    async fn install(&mut self) -> Result<Installed, DemoError> {
        self.say.step("The marketplace installs it in an org")?;
        let installed = self.request_installation().await?;
        self.say.field("installation", &installed.id)?;
        self.say.field("start address", &installed.start_url)?;
        let webhooks = self.look(Who::Admin, "/api/v1/webhooks").await?;
        self.say.check(
            "it waits for the authorisation, and has no webhook before",
            webhooks["data"] == json!([]),
            || webhooks.to_string(),
        )?;
        Ok(installed)
    }

    async fn request_installation(&mut self) -> Result<Installed, DemoError> {
        let request = json!({
            "extensionKey": KEY,
            "orgId": ORG,
            "installedBy": "1892000000056007",
            "config": { "mirrorTarget": "Support", "mirrorMode": "all" },
        });
        let path = "/api/v1/callbacks/install";
        let content = Content::Json(request);
        let answer = self.call(Who::Marketplace, Method::POST, path, content, 201).await?;
        let state = text(&answer, "/state");
        self.say.field("state", format_args!("{state}, generation {}", answer["generation"]))?;
        Ok(Installed {
            id: text(&answer, "/installationId"),
            start_url: text(&answer, "/startUrl"),
        })
    }

    async fn authorize(&mut self, installed: &Installed) -> Result<(), DemoError> {
        self.say.step("The administrator's browser authorises it at the provider")?;
        self.walk(installed).await?;
        let path = format!("/api/v1/installations/{}", installed.id);
        let now = self.call(Who::Marketplace, Method::GET, &path, Content::Nothing, 200).await?;
        self.say.field("state", text(&now, "/state"))?;
        self.say.field("granted scopes", text(&now, "/grantedScopes"))?;
        self.say.check("the installation is active", now["state"] == "active", || {
            text(&now, "/state")
        })?;
        let live = self.demo.provider.live_tokens().len();
        self.say.check("the provider issued tokens; here they are sealed", live > 0, || {
            "no live tokens".to_owned()
        })?;
        for event in ["onInstall", "onZohoAuthorise"] {
            let received = self.callback(event).await?;
            let verified = verify(&received, &self.secrets);
            self.say.check(
                &format!("the vendor was told {event}, signed in both ways"),
                verified.hash == Check::Valid && verified.standard == Check::Valid,
                || verified.to_string(),
            )?;
        }
        Ok(())
    }

    /// Walks from the start address over the consent page and back.
    async fn walk(&mut self, installed: &Installed) -> Result<(), DemoError> {
        let mut browser = Browser::new()?;
        let page = browser.walk(&installed.start_url, Decision::Approve).await?;
        let title = page.body.split("<title>").nth(1).and_then(|rest| rest.split('<').next());
        let title = title.unwrap_or_default().to_owned();
        self.say
            .field("last page", format_args!("{} {}: {title}", page.status, page.url.path()))?;
        self.say.check("the browser comes back authorised", page.status == 200, || {
            format!("status {}: {title}", page.status)
        })
    }

    /// The callback of a name that the vendor got.
    async fn callback(&mut self, event: &str) -> Result<Arc<Received>, DemoError> {
        let is_it = |received: &Received| {
            received.path == CALLBACKS && received.json().is_ok_and(|body| body["event"] == event)
        };
        self.arrived(&format!("{event} at the vendor"), 1, is_it).await.map(|mut all| all.remove(0))
    }

    async fn webhook(&mut self) -> Result<Value, DemoError> {
        self.say.step("The extension's webhook exists, and is locked")?;
        let path = "/api/v1/webhooks";
        let list = self.call(Who::Admin, Method::GET, path, Content::Nothing, 200).await?;
        let webhook = list["data"][0].clone();
        for (name, pointer) in [
            ("name", "/name"),
            ("address", "/url"),
            ("type", "/type"),
            ("subscriptions", "/subscriptions"),
            ("health", "/health"),
        ] {
            self.say.field(name, text(&webhook, pointer))?;
        }
        self.say.check(
            "one webhook, locked by the extension",
            list["data"].as_array().is_some_and(|all| all.len() == 1)
                && webhook["locked"] == true
                && webhook["type"] == "EXTENSION_WEBHOOK",
            || list.to_string(),
        )?;
        Ok(webhook)
    }

    /// Posts an event; gives back its id and how many deliveries it made.
    async fn post(&mut self, event: Value) -> Result<(String, u64), DemoError> {
        let content = Content::Json(event);
        let accepted = self.call(Who::Host, Method::POST, "/api/v1/events", content, 202).await?;
        let made = accepted["events"][0]["deliveries"].as_u64().unwrap_or_default();
        Ok((text(&accepted, "/events/0/eventId"), made))
    }

    /// Gives back the securityContext, which the vendor got and nobody else sees.
    async fn delivery(&mut self, webhook: &Value) -> Result<SecretText, DemoError> {
        self.say.step("The host posts an event; the vendor gets it signed")?;
        self.demo.vendor.forget();
        let posted = self.demo.seam.clock.instant();
        let (event, made) = self.post(sample::ticket_add()).await?;
        self.say.check("202: it is on disk, with its delivery", made == 1, || {
            format!("{made} deliveries")
        })?;
        let received = self
            .arrived("the event at the vendor", 1, |received| received.path == HOOK)
            .await?
            .remove(0);
        let took = received.instant.saturating_duration_since(posted);
        self.say.field("took", format_args!("{:.1} ms", took.as_secs_f64() * 1_000.0))?;
        self.show_request(&received)?;
        let verified = verify(&received, &self.secrets);
        self.say.check(
            "its Standard Webhooks signature is right",
            verified.standard == Check::Valid,
            || verified.to_string(),
        )?;
        let claims = self.verify_jwt(&received).await;
        let wanted = (format!("orgId:{ORG}"), format!("webhookId:{}", text(webhook, "/id")));
        let fits = claims
            .as_ref()
            .is_ok_and(|claims| claims["iss"] == *wanted.0 && claims["aud"] == *wanted.1);
        self.say.check("its X-ZDesk-JWT is right by the published keys", fits, || {
            format!("{claims:?}")
        })?;
        let names: Vec<String> = received.parameters().into_iter().map(|(name, _)| name).collect();
        let body = received.json().unwrap_or_default();
        self.say.check(
            "the declared query is kept; orgId and securityContext follow it",
            names == ["tenant", "orgId", "securityContext"]
                && received.parameter("orgId").as_deref() == Some(ORG)
                && body[0]["orgId"] == ORG,
            || received.masked_target(),
        )?;
        let path = format!("/api/v1/events/{event}?orgId={ORG}");
        let (seen, is_delivered) = self
            .look_until(Who::Host, &path, |seen| {
                seen["webhooks"][0]["delivery"]["state"] == "delivered"
            })
            .await?;
        self.say.check("it is kept as delivered, with its attempt", is_delivered, || {
            seen.to_string()
        })?;
        Ok(SecretText::new(received.parameter("securityContext").unwrap_or_default()))
    }

    /// Gives back the call, which is made once more when nothing is left that it could speak for.
    async fn invoke(&mut self, context: &SecretText) -> Result<Content, DemoError> {
        self.say.step("The vendor calls back in, without holding any token of the org")?;
        let (url, method) = ("/api/v1/installedExtensions/{{installationId}}/configParams", "GET");
        let document = json!({
            "securityContext": context.expose(), "requestURL": url, "requestType": method,
        });
        let signed = format!("requestURL={url}&requestType={method}");
        let hash = desk_hash(&SecretText::new(SECRET), signed.as_bytes());
        let hash = hash.map_err(|error| self.say.unkept("a HASH", error.to_string()))?;
        self.say.field("signs", &signed)?;
        let path = format!("/api/v1/invoke?orgId={ORG}");
        let forged = Content::Signed(document.clone(), "0".repeat(64));
        let refused = self.demo.client.call(None, Method::POST, &path, forged).await?;
        self.say.call("a forger", "POST", &path, refused.status)?;
        let call = Content::Signed(document, hash);
        let answer = self.demo.client.call(None, Method::POST, &path, call.clone()).await?;
        self.say.call("vendor", "POST", &path, answer.status)?;
        let inner: Value =
            serde_json::from_str(&text(&answer.body, "/response")).unwrap_or_default();
        self.say.field("response", &inner)?;
        self.say.check(
            "the securityContext alone opens nothing; with the HASH it answers",
            refused.status == 401 && answer.status == 200 && inner["statusCode"] == 200,
            || answer.body.to_string(),
        )?;
        Ok(call)
    }

    async fn refused_edit(&mut self, webhook: &Value) -> Result<(), DemoError> {
        self.say.step("The admin cannot change the extension's webhook")?;
        let path = format!("/api/v1/webhooks/{}", text(webhook, "/id"));
        let change = Content::Json(json!({ "isEnabled": false }));
        let refused = self.call(Who::Admin, Method::PATCH, &path, change, 403).await?;
        self.say.field("detail", text(&refused, "/detail"))?;
        self.say.field("lockedBy", text(&refused, "/lockedBy"))?;
        self.call(Who::Admin, Method::DELETE, &path, Content::Nothing, 403).await?;
        let now = self.look(Who::Admin, &path).await?;
        self.say.check(
            "the answer says who owns it, and nothing changed",
            refused["lockedBy"]["extensionKey"] == KEY && now == *webhook_as_now(webhook, &now),
            || now.to_string(),
        )
    }

    async fn no_match(&mut self) -> Result<(), DemoError> {
        self.say.step("An event that the webhook does not want, and why")?;
        self.say.note("it subscribes to Ticket_Update with \"fields\": [\"status\"]")?;
        let mut event = sample::ticket_update();
        event["payload"]["status"] = event["prevState"]["status"].clone();
        let (id, made) = self.post(event).await?;
        let path = format!("/api/v1/events/{id}?orgId={ORG}");
        let seen = self.call(Who::Host, Method::GET, &path, Content::Nothing, 200).await?;
        let verdict = &seen["webhooks"][0];
        self.say.field("rule", text(verdict, "/rule"))?;
        self.say.field("reason", text(verdict, "/reason"))?;
        self.say.check(
            "no delivery, and the rule that refused is named",
            made == 0 && verdict["matched"] == false && verdict["rule"] == "fields",
            || verdict.to_string(),
        )
    }

    async fn retry(&mut self) -> Result<(), DemoError> {
        self.say.step("The vendor fails once; the delivery is tried again")?;
        self.say.note("here after 1 s; as shipped after 1 min, 5 min, 30 min and 2 h")?;
        self.demo.vendor.forget();
        let down = Behaviour::status(503).with_body("down for maintenance");
        self.demo.vendor.behave_in_turn(HOOK, [down], Behaviour::status(200));
        let (event, _) = self.post(sample::ticket_update()).await?;
        let both =
            self.arrived("two attempts at the vendor", 2, |received| received.path == HOOK).await?;
        let path = format!("/api/v1/events/{event}?orgId={ORG}");
        let (seen, is_delivered) = self
            .look_until(Who::Host, &path, |seen| {
                seen["webhooks"][0]["delivery"]["state"] == "delivered"
            })
            .await?;
        let delivery = seen["webhooks"][0]["delivery"].clone();
        for attempt in delivery["attempts"].as_array().into_iter().flatten() {
            let said = text(attempt, "/response/body");
            let said = if said.is_empty() { String::new() } else { format!("  \"{said}\"") };
            let line = format!("{}  status {}{said}", text(attempt, "/time"), attempt["status"]);
            self.say.field(&format!("attempt {}", attempt["number"]), line)?;
        }
        let ids: Vec<_> = both.iter().map(|one| one.header("webhook-id")).collect();
        self.say.check("both attempts carry the same webhook-id", ids[0] == ids[1], || {
            format!("{ids:?}")
        })?;
        self.say.check("the second one arrived", is_delivered, || delivery.to_string())?;
        let previous = both[1].json().unwrap_or_default();
        self.say.check(
            "prevState is in it, because the subscription asks for it",
            previous[0]["prevState"]["status"] == "Open",
            || previous.to_string(),
        )
    }

    async fn uninstall(&mut self, installed: &Installed, call: Content) -> Result<(), DemoError> {
        self.say.step("The marketplace uninstalls; nothing is left behind")?;
        let request = json!({ "installationId": installed.id, "reason": "the demo is over" });
        let path = "/api/v1/callbacks/uninstall";
        let content = Content::Json(request);
        let ended = self.call(Who::Marketplace, Method::POST, path, content, 200).await?;
        self.say.check(
            "uninstalled, with its webhook",
            ended["state"] == "uninstalled" && ended["removedWebhooks"] == 1,
            || ended.to_string(),
        )?;
        let webhooks = self.look(Who::Admin, "/api/v1/webhooks").await?;
        self.say.check("the org has no webhook any more", webhooks["data"] == json!([]), || {
            webhooks.to_string()
        })?;
        let path = format!("/api/v1/invoke?orgId={ORG}");
        let refused = self.demo.client.call(None, Method::POST, &path, call).await?;
        self.say.call("vendor", "POST", &path, refused.status)?;
        self.say.check("its securityContext is dead at once", refused.status == 401, || {
            refused.body.to_string()
        })?;
        let received = self.callback("onUninstall").await?;
        let verified = verify(&received, &self.secrets);
        self.say.check("the vendor was told onUninstall, signed", verified.is_trusted(), || {
            verified.to_string()
        })?;
        let provider = &self.demo.provider;
        let is_revoked = self.until(|| provider.live_tokens().is_empty()).await;
        self.say.check("the tokens are revoked at the provider", is_revoked, || {
            format!("{} live tokens", provider.live_tokens().len())
        })?;
        let path = format!("/api/v1/installations/{}", installed.id);
        let (seen, is_done) =
            self.look_until(Who::Operator, &path, |seen| seen["cleanup"] == "done").await?;
        self.say.check("the clean-up is done", is_done, || text(&seen, "/cleanup"))?;
        self.demo.vendor.forget();
        let (_, made) = self.post(sample::ticket_add()).await?;
        self.demo.seam.clock.sleep(std::time::Duration::from_millis(300)).await;
        let came = self.demo.vendor.received_at(HOOK).len();
        self.say.check("a further event goes nowhere", (made, came) == (0, 0), || {
            format!("{made} deliveries, {came} requests")
        })?;
        let path = format!("/api/v1/installations/{}/history", installed.id);
        let history = self.look(Who::Marketplace, &path).await?;
        for step in history["data"].as_array().into_iter().flatten() {
            let (command, to) = (text(step, "/command"), text(step, "/to"));
            self.say.field("history", format_args!("{}  {command}  →  {to}", text(step, "/at")))?;
        }
        Ok(())
    }
}

/// The webhook as it was, but for what deliveries change by themselves.
fn webhook_as_now<'w>(was: &'w Value, now: &'w Value) -> &'w Value {
    let same = ["url", "isEnabled", "subscriptions", "modifiedTime", "locked", "name"]
        .iter()
        .all(|name| was[*name] == now[*name]);
    if same { now } else { was }
}

/// Installs again, says how to reach everything, and prints what the vendor receives.
pub(super) async fn stay(
    demo: &Demo,
    cast: &Cast,
    say: &mut Narrator<'_>,
) -> Result<(), DemoError> {
    say.begin(1);
    let mut scene = Scene { demo, say, tokens: cast.tokens.clone(), secrets: cast.secrets.clone() };
    scene.say.step("Installed once more, for you to play with")?;
    let installed = scene.request_installation().await?;
    scene.walk(&installed).await?;
    let base = demo.client.base().as_str().trim_end_matches('/').to_owned();
    scene.say.heading("The servers stay up. Ctrl-C ends them and removes the folder.")?;
    scene.say.line(format_args!("\nexport MORTISE={base}"))?;
    for (who, token) in scene.tokens.clone() {
        scene.say.line(format_args!("export {}_TOKEN={token}", who.name().to_uppercase()))?;
    }
    let event = json!({ "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "1" } });
    for (what, command) in [
        (
            "Post an event",
            format!(
                "curl -s \"$MORTISE/api/v1/events\" -H \"Authorization: Bearer $HOST_TOKEN\" \\\n  \
                 -H 'Content-Type: application/json' -d '{event}'"
            ),
        ),
        (
            "See what was delivered",
            "curl -s \"$MORTISE/api/v1/deliveries\" -H \"Authorization: Bearer $VENDOR_TOKEN\""
                .to_owned(),
        ),
        (
            "See the org's webhooks",
            "curl -s \"$MORTISE/api/v1/webhooks\" -H \"Authorization: Bearer $ADMIN_TOKEN\""
                .to_owned(),
        ),
        (
            "Uninstall",
            format!(
                "curl -s \"$MORTISE/api/v1/callbacks/uninstall\" \
                 -H \"Authorization: Bearer $MARKETPLACE_TOKEN\" \\\n  \
                 -H 'Content-Type: application/json' -d '{{\"installationId\":\"{}\"}}'",
                installed.id
            ),
        ),
        ("Read the API", "curl -s \"$MORTISE/openapi.json\"".to_owned()),
    ] {
        scene.say.line(format_args!("\n# {what}\n{command}"))?;
    }
    let content = Content::Json(json!({
        "role": "admin", "orgId": ORG, "subject": "demo-admin", "displayName": "The administrator",
    }));
    let opened = scene.call(Who::Host, Method::POST, "/api/v1/portal-links", content, 201).await?;
    scene.say.line(format_args!(
        "\n# Look at the administrator's pages: this link works once, for 15 minutes; with \
         ADMIN_TOKEN, VENDOR_TOKEN\n# or the operator's you come in at {base}/sign-in\n{}",
        text(&opened, "/url")
    ))?;
    scene.say.heading("What the vendor receives")?;
    demo.vendor.forget();
    loop {
        let received = match demo.vendor.next(std::time::Duration::from_hours(1)).await {
            Ok(received) => received,
            Err(crate::development::DevelopmentError::TimedOut { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let verified = verify(&received, &scene.secrets);
        let line = format!("{}  {}  {verified}", received.arrived, received.masked_target());
        scene.say.field(&received.event_name(), line)?;
    }
}
