//! Recipes on the pages, without JavaScript: two values are typed in, and what passes its test is made.

use mortise::development::Behaviour;

use super::visitor::Visitor;
use crate::support::on_both;
use crate::support::own_world::OwnWorld;
use crate::support::server::{Backend, ORG};

on_both!(somebody_who_does_not_program_makes_a_webhook_that_works);

const GALLERY: &str = "/pages/recipes";

async fn somebody_who_does_not_program_makes_a_webhook_that_works(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let gallery = ada.get(GALLERY).await.expect(200).text;
    for id in ["slack", "teams", "ticket-elsewhere", "copy-field", "sla-alert", "dashboard"] {
        assert!(gallery.contains(&format!("{GALLERY}/{id}\"")), "{id}: {gallery}");
    }
    let path = format!("{GALLERY}/slack");
    let count = async || world.server.webhooks(ORG).await.len();
    // What breaks a rule is said at its field, and what was typed in stays.
    let wrong = [("value.url", "no \"address\""), ("value.priority", "High")];
    let refused = ada.submit(&path, &path, &wrong).await.expect(422).text;
    assert!(
        refused.contains("aria-invalid") && refused.contains("no &#34;address&#34;"),
        "{refused}"
    );
    // What fails its test shows both sides, and is made only where that is wanted.
    world.server.vendor.behave("/wall", Behaviour::status(404));
    let url = world.server.vendor.url("/wall");
    let values = [("value.url", url.as_str()), ("value.priority", "High")];
    let failed = ada.submit(&path, &path, &values).await.expect(200).text;
    assert!(failed.contains("did not pass") && failed.contains("<code>404</code>"), "{failed}");
    assert!(failed.contains(&url) && failed.contains("name=\"anyway\""));
    assert_eq!(count().await, 0);
    world.server.vendor.behave("/wall", Behaviour::status(200));
    let made = ada.submit(&path, &path, &values).await.expect(200).text;
    assert!(made.contains("is there and works") && made.contains("/pages/webhooks/"), "{made}");
    assert_eq!(count().await, 1);
    let vic = Visitor::viewer(&world.server, ORG).await;
    let gallery = vic.get(GALLERY).await.expect(200).text;
    assert!(gallery.contains("An administrator can use them") && !gallery.contains("Use it…"));
    vic.get(&path).await.expect(404);
    ada.get(&format!("{GALLERY}/none")).await.expect(404);
}
