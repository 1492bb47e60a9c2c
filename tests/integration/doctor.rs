//! `mortise doctor`: what it checks, repairs, and the way back from a backup.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, SOON, a_while, ticket, tickets};
use crate::support::ground::{Ended, Ground};
use crate::support::on_both;
use crate::support::program::Program;
use crate::support::server::{Backend, eventually};

on_both!(
    what_is_wrong_is_said_with_what_to_do,
    a_restored_backup_sends_nothing_until_it_is_released,
);

fn document(ended: &Ended) -> Value {
    serde_json::from_str(&ended.answers)
        .unwrap_or_else(|error| panic!("{error}: {} {}", ended.answers, ended.messages))
}

fn status<'d>(document: &'d Value, name: &str) -> &'d str {
    let checks = document["checks"].as_array().expect("checks");
    let found = checks.iter().filter(|check| check["name"] == name);
    // The worst of several.
    let order = |check: &&Value| match check["status"].as_str() {
        Some("problem") => 2,
        Some("warning") => 1,
        _ => 0,
    };
    let worst = found.max_by_key(order).unwrap_or_else(|| panic!("no {name} in {document:#}"));
    worst["status"].as_str().expect("a status")
}

async fn what_is_wrong_is_said_with_what_to_do(backend: Backend) {
    let ground = Ground::new(backend, |_| {}).await;
    let json = ["doctor", "--format", "json"];
    // While no server runs.
    let sound = ground.command(&json).await;
    let found = document(&sound);
    assert_eq!(sound.code, Some(0), "{found:#}");
    assert_eq!(found["healthy"], true);
    for name in ["database", "keys", "clock", "nodes", "audit", "deliveries", "files", "providers"]
    {
        assert_eq!(status(&found, name), "ok", "{name}: {found:#}");
    }
    // Plain http on the loopback interface is worth a warning, and no more.
    assert_eq!(status(&found, "publicUrl"), "warning");

    // While one runs: the same, through it where it holds the file.
    let program = ground.launch().await;
    let id = ground.active(&program, "1").await;
    ground.active(&program, "2").await;
    let running = document(&ground.command(&json).await);
    assert_eq!(running["healthy"], true, "{running:#}");
    assert_eq!(running["reconcile"]["installations"], 2);

    // Drift, repaired by the command through the server.
    let lost = ground.installation(&program, &id).await["webhooks"][0]["id"].clone();
    let lost = lost.as_str().expect("an id");
    let delete = format!("delete from webhooks where id = {}", ground.sql_id(lost));
    ground.place.execute(&delete).await;
    let told = ground.command(&["doctor"]).await;
    assert_eq!(told.code, Some(1), "{}", told.answers);
    for part in ["webhook.missing", lost, "would do: the webhook is restored", "doctor --repair"] {
        assert!(told.answers.contains(part), "no {part} in {}", told.answers);
    }
    let repaired = ground.command(&["doctor", "--repair"]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.answers);
    assert!(repaired.answers.contains("repaired: "), "{}", repaired.answers);
    let seen = ground.installation(&program, &id).await;
    assert_eq!(seen["webhooks"][0]["id"], lost);

    // Queued for a webhook that is no more, while nobody runs.
    program.terminate(SOON).await;
    let orphan = "insert into deliveries (id, event_id, endpoint_id, generation, state, due_at, \
         created_at) values (ID, ID, ID, 1, 0, 5, 5)";
    let stray = mortise::seam::Randomness::default().id().to_string();
    ground.place.execute(&orphan.replace("ID", &ground.sql_id(&stray))).await;
    let queued = document(&ground.command(&json).await);
    assert_eq!(queued["reconcile"]["counts"], json!({ "delivery.zombie": 1 }), "{queued:#}");
    assert_eq!(ground.command(&["doctor", "--repair"]).await.code, Some(0));
    assert_eq!(ground.command(&["doctor"]).await.code, Some(0));

    // A file that others can read.
    let key = ground.folder().join("master.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let open = ground.command(&json).await;
    assert_eq!((open.code, status(&document(&open), "files")), (Some(1), "problem"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a mode");

    // An audit row that somebody changed: the database refuses it, until its guard is taken away.
    let forgery = "update audit set actor = 'nobody' where chain = '1' and sequence = 2";
    let removal = "delete from audit where chain = '1' and sequence = 2";
    for statement in [forgery, removal] {
        let refused = ground.place.try_execute(statement).await.expect_err("it is refused");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    let guard = if ground.is_sqlite {
        "drop trigger audit_is_not_changed"
    } else {
        "drop trigger audit_is_append_only on audit"
    };
    ground.place.execute(guard).await;
    ground.place.execute(forgery).await;
    let forged = ground.command(&json).await;
    let found = document(&forged);
    assert_eq!((forged.code, status(&found, "audit")), (Some(1), "problem"), "{found:#}");
    assert!(forged.answers.contains("1 at 2: its content was changed"), "{}", forged.answers);

    // Another master key.
    let kept = std::fs::read(&key).expect("the key");
    std::fs::write(&key, [7_u8; 32]).expect("another key");
    let other = ground.command(&json).await;
    assert_eq!((other.code, status(&document(&other), "keys")), (Some(1), "problem"));
    std::fs::write(&key, kept).expect("the key is back");

    let unusable = ground.command(&["doctor", "--marketplace-list", "x"]).await;
    assert_eq!(unusable.code, Some(2), "{}", unusable.messages);
}

/// A copy of the database as it is now.
async fn back_up(ground: &Ground) -> Vec<(String, Vec<u8>)> {
    if !ground.is_sqlite {
        // Each table as rows of text, in a schema of its own.
        ground.place.execute("create schema backup").await;
        for table in tables(ground).await {
            ground
                .place
                .execute(&format!("create table backup.{table} as table public.{table}"))
                .await;
        }
        return Vec::new();
    }
    ["mortise.db", "mortise.db-wal"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::fs::read(ground.folder().join(name)).ok()?)))
        .collect()
}

async fn restore(ground: &Ground, backup: Vec<(String, Vec<u8>)>) {
    if !ground.is_sqlite {
        for table in tables(ground).await {
            ground.place.execute(&format!("truncate public.{table}")).await;
            let rows = format!("insert into public.{table} select * from backup.{table}");
            ground.place.execute(&rows).await;
        }
        return;
    }
    for name in ["mortise.db", "mortise.db-wal", "mortise.db-shm"] {
        let _gone = std::fs::remove_file(ground.folder().join(name));
    }
    for (name, bytes) in backup {
        let file = ground.folder().join(name);
        std::fs::write(&file, bytes).expect("it is written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }
}

async fn tables(ground: &Ground) -> Vec<String> {
    let query = "select tablename::text from pg_tables where schemaname = 'public'
         and tablename not like '%migrations'";
    ground.place.texts(query).await
}

async fn generation(ground: &Ground, program: &Program, id: &str) -> i64 {
    ground.installation(program, id).await["generation"].as_i64().expect("a number")
}

/// The last cursor of the journal, and of what changed: where somebody goes on who has read all.
async fn ends(ground: &Ground, program: &Program) -> (String, String) {
    let last = async |path: &str| {
        let mut cursor = String::new();
        loop {
            let at = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
            let path = format!("{path}{at}");
            let page = program.client.get(&path, &ground.operator).await.expect(200).json;
            let rows = page["data"].as_array().expect("rows").clone();
            match (page["nextCursor"].as_str(), rows.last()) {
                (Some(next), _) => next.clone_into(&mut cursor),
                (None, Some(row)) => {
                    return row["cursor"].as_str().map(str::to_owned).unwrap_or(cursor);
                }
                (None, None) => return cursor,
            }
        }
    };
    let journal = last("/api/v1/journal?limit=1").await;
    (journal, last("/api/v1/installations?since=1970-01-01T00:00:00Z&limit=1").await)
}

async fn a_restored_backup_sends_nothing_until_it_is_released(backend: Backend) {
    let ground =
        Ground::new(backend, |settings| settings.set("delivery.schedule", "10s,10s,10s,10s")).await;
    let program = ground.launch().await;
    let kept = ground.active(&program, "kept").await;
    let quiet = ground.active(&program, "quiet").await;
    let wiped = ground.active(&program, "wiped").await;
    let gone = ground.active(&program, "gone").await;
    // What waits in the backup: the vendor is away.
    ground.vendor.behave(HOOK, mortise::development::Behaviour::status(503));
    for org in ["kept", "gone"] {
        let event = ticket(org, &format!("before-{org}"));
        program.client.post("/api/v1/events", &ground.host, &event).await.expect(202);
    }
    ground.vendor.wait_for_path(HOOK, 2, SOON).await.expect("first attempts");
    program.terminate(SOON).await;
    let backup = back_up(&ground).await;

    // Life goes on after the backup: one is uninstalled, two come, and one of them again.
    let program = ground.launch().await;
    let uninstall = json!({ "extensionKey": "ticket-mirror", "orgId": "gone" });
    ground.call(&program, "uninstall", &uninstall).await;
    // One is suspended, and of another not even the tombstone is kept.
    let suspend = json!({ "installationId": quiet, "reason": "a leak" });
    ground.call(&program, "suspend", &suspend).await;
    let erase = json!({ "installationId": wiped, "eraseData": true });
    ground.call(&program, "uninstall", &erase).await;
    let late = ground.active(&program, "late").await;
    let mut again = String::new();
    for _ in 0..3 {
        again = ground.active(&program, "again").await;
        if generation(&ground, &program, &again).await < 3 {
            let body = json!({ "installationId": again });
            ground.call(&program, "uninstall", &body).await;
        }
    }
    let path = "/api/v1/installations?limit=200";
    let mut list = program.client.all(path, &ground.operator).await;
    for row in &mut list {
        if row["installationId"] == wiped.as_str() {
            row["state"] = json!("erased");
        }
    }
    // What vendors and the marketplace have read up to here, they go on from.
    let (journal_end, change_end) = ends(&ground, &program).await;
    let list: Vec<Value> = list
        .iter()
        .filter(|row| row["state"] != "uninstalled")
        .map(|row| {
            json!({ "extensionKey": row["extensionKey"], "orgId": row["orgId"],
                "installationId": row["installationId"], "generation": row["generation"],
                "state": row["state"] })
        })
        .collect();
    assert_eq!(list.len(), 5);
    let file = ground.folder().join("marketplace.jsonl");
    let lines: Vec<String> = list.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).expect("a list");
    let file = file.to_str().expect("text");
    // Not while a server runs.
    let refused = ground.command(&["doctor", "--after-restore"]).await;
    assert_eq!(refused.code, Some(1), "{} {}", refused.answers, refused.messages);
    program.terminate(SOON).await;

    restore(&ground, backup).await;
    ground.vendor.behave(HOOK, mortise::development::Behaviour::status(200));
    ground.vendor.forget();
    let told = ground
        .command(&["doctor", "--after-restore", "--marketplace-list", file, "--format", "json"])
        .await;
    let found = document(&told);
    assert_eq!(told.code, Some(1), "{found:#}");
    let restored = &found["restore"];
    assert_eq!(restored["deliveriesWaiting"].as_i64().map(|count| count >= 2), Some(true));
    assert_eq!((&restored["surplus"], &restored["uninstalled"]), (&json!(2), &json!(false)));
    let surplus = restored["surplusInstallations"].to_string();
    assert!(surplus.contains(&gone) && surplus.contains(&wiped), "{found:#}");
    assert_eq!((&restored["differing"], &restored["unsettled"]), (&json!(1), &json!(1)));
    let differing = &restored["differingInstallations"][0];
    assert_eq!(differing["installationId"], quiet.as_str());
    let reason = differing["reason"].as_str().expect("why");
    assert!(reason.contains("active here, and suspended at the marketplace"), "{reason}");
    assert_eq!(restored["missing"], 2, "{found:#}");

    // A server that runs now holds everything.
    let program = ground.launch().await;
    assert!(program.is_ready().await);
    let event = ticket("kept", "held");
    let answer = program.client.post("/api/v1/events", &ground.host, &event).await.expect(202);
    assert_eq!(answer.json["events"][0]["deliveries"], 1);
    a_while().await;
    a_while().await;
    assert!(ground.vendor.received().is_empty(), "nothing at all is sent");
    let reconciled = program.client.get("/api/v1/reconcile", &ground.operator).await.expect(200);
    assert!(reconciled.json["heldSince"].is_string(), "{}", reconciled.text);
    let notices = program.client.all("/api/v1/notices", &ground.operator).await;
    assert!(notices.iter().any(|notice| notice["kind"] == "deliveries.held"), "{notices:?}");
    let doctor = ground.command(&["doctor"]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.answers);
    assert!(doctor.answers.contains("doctor --release"), "{}", doctor.answers);
    program.terminate(SOON).await;

    let done = ground
        .command(&["doctor", "--after-restore", "--repair", "--marketplace-list", file])
        .await;
    assert_eq!(done.code, Some(1), "two must be installed again: {}", done.answers);
    for part in [late.as_str(), again.as_str(), gone.as_str(), "installed after the backup"] {
        assert!(done.answers.contains(part), "no {part} in {}", done.answers);
    }
    assert!(done.answers.contains("suspended in the marketplace's name"), "{}", done.answers);
    assert!(done.answers.contains("1 put right, 0 to look at"), "{}", done.answers);
    let program = ground.launch().await;
    assert_eq!(ground.installation(&program, &gone).await["state"], "uninstalled");
    let held = ground.installation(&program, &quiet).await;
    assert_eq!(
        (&held["state"], &held["suspendedBy"]),
        (&json!("suspended"), &json!(["marketplace"]))
    );
    let path = format!("/api/v1/installations/{wiped}/erasure");
    let erasure = program.client.get(&path, &ground.operator).await.expect(200).json;
    assert_eq!(erasure["cause"], "request", "{erasure:#}");
    // Whoever goes on from where he was in the life before sees what comes in this one.
    let journal = format!("/api/v1/journal?cursor={journal_end}");
    let journal = program.client.get(&journal, &ground.operator).await.expect(200).json;
    let told: Vec<&str> = journal["data"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|one| one["callback"]["installationId"].as_str())
        .collect();
    assert!(told.contains(&gone.as_str()), "{journal:#}");
    let path = format!("/api/v1/installations?since=1970-01-01T00:00:00Z&cursor={change_end}");
    let changes = program.client.get(&path, &ground.operator).await.expect(200).json;
    let seen: Vec<&str> = changes["data"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|one| one["installationId"].as_str())
        .collect();
    for id in [&gone, &wiped, &quiet] {
        assert!(seen.contains(&id.as_str()), "{changes:#}");
    }
    // The marketplace installs again: no generation that it has seen comes back.
    let anew = ground.active(&program, "again").await;
    assert!(generation(&ground, &program, &anew).await > 1_000);
    a_while().await;
    assert!(ground.vendor.received().is_empty());
    let released = ground.command(&["doctor", "--release"]).await;
    assert_eq!(released.code, Some(0), "{}", released.messages);
    ground.vendor.wait_for_path(HOOK, 2, SOON).await.expect("what waited arrives");
    eventually("nothing waits", async || {
        let waiting = "deliveries where state = 0";
        (ground.number(waiting).await == 0).then_some(())
    })
    .await;
    let mut arrived = tickets(&ground.vendor.received_at(HOOK));
    arrived.sort();
    assert_eq!(arrived, ["before-kept", "held"], "and nothing of what was uninstalled");
    assert_eq!(ground.command(&["doctor", "--release"]).await.answers, "nothing was held\n");
    assert_eq!(ground.installation(&program, &kept).await["state"], "active");
    assert_eq!(ground.command(&["doctor"]).await.code, Some(0));
    program.terminate(SOON).await;
}
