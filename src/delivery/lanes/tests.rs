//! Whose turn it is, told as small stories.

use std::sync::Arc;

use bytes::Bytes;

use super::super::lane::{AHEAD_LIMIT, Circumstances, Content, Kind};
use super::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    failures: 3,
    failure_percent: 70,
    volume: 20,
    pause: Duration::from_secs(10),
    pause_limit: Duration::from_mins(1),
};
const NOW: Timestamp = Timestamp::from_millis(1_000);
const SOON: Duration = Duration::from_millis(1);

fn job(endpoint: u128, id: u128, attempts_before: i32, kind: Kind) -> Job {
    Job {
        id: Uuid::from_u128(id),
        endpoint_id: Uuid::from_u128(endpoint),
        generation: 1,
        attempts_before,
        is_replay: false,
        kind,
        variant: None,
        content: Arc::new(Content {
            org_id: Arc::from("1"),
            event_type: Arc::from("Ticket_Add"),
            event_time: 0,
            payload: Bytes::new(),
            previous: None,
            circumstances: Circumstances::default(),
        }),
        lease_until: None,
        place: None,
        span: None,
    }
}

fn lanes(cap: usize) -> Lanes {
    Lanes::new(Caps { per_lane: cap, in_all: 100 }, POLICY)
}

fn order(lanes: &mut Lanes) -> Vec<u128> {
    std::iter::from_fn(|| lanes.next(NOW)).map(|turn| turn.job.id.as_u128()).collect()
}

#[test]
fn lanes_take_turns_and_caps_hold() {
    let mut lanes = lanes(2);
    for id in 0..5 {
        lanes.push(job(1, 10 + id, 0, Kind::Webhook), NOW);
    }
    lanes.push(job(2, 20, 0, Kind::Webhook), NOW);
    assert_eq!(order(&mut lanes), [10, 20, 11], "the loud lane has two slots only");
    lanes.done(Uuid::from_u128(1), LaneOutcome::Success, SOON, NOW);
    assert_eq!(order(&mut lanes), [12]);
}

fn terms(concurrency: usize, rate_per_minute: Option<u32>) -> DeliveryTerms {
    DeliveryTerms {
        pauses: Arc::from([]),
        deadline: Duration::from_secs(10),
        concurrency,
        rate_per_minute,
        shared_by: None,
        clamped: Vec::new(),
    }
}

fn shared(org: &str, rate_per_minute: u32) -> DeliveryTerms {
    DeliveryTerms { shared_by: Some(Arc::from(org)), ..terms(8, Some(rate_per_minute)) }
}

#[test]
fn the_lanes_of_an_org_take_turns_at_its_rate_and_another_org_has_its_own() {
    let mut lanes = lanes(8);
    for (endpoint, org) in [(1, "a"), (2, "a"), (3, "b")] {
        lanes.set_terms(Uuid::from_u128(endpoint), &shared(org, 60));
    }
    for id in 0..4 {
        lanes.push(job(1, 10 + id, 0, Kind::Webhook), NOW);
    }
    lanes.push(job(2, 20, 0, Kind::Webhook), NOW);
    lanes.push(job(2, 21, 0, Kind::Webhook), NOW);
    lanes.push(job(3, 30, 0, Kind::Webhook), NOW);
    lanes.push(job(4, 40, 0, Kind::Webhook), NOW);
    // One a second for each org: the others of the first one wait without a worker.
    assert_eq!(order(&mut lanes), [10, 30, 40]);
    let mut sent = Vec::new();
    for second in 1..=5 {
        let now = NOW.plus(Duration::from_secs(second));
        assert_eq!(lanes.next_paced(), Some(now), "{sent:?}");
        assert!(lanes.wake_paced(now));
        sent.push(lanes.next(now).map(|turn| turn.job.id.as_u128()));
        assert!(lanes.next(now).is_none());
    }
    // The one with more to send does not keep the other from its turn.
    assert_eq!(sent, [Some(11), Some(20), Some(12), Some(21), Some(13)]);
    assert_eq!(lanes.next_paced(), None);
}

#[test]
fn what_was_not_tried_gives_its_token_to_whoever_is_next() {
    let mut lanes = lanes(8);
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for endpoint in [one, other] {
        lanes.set_terms(endpoint, &shared("a", 6));
    }
    lanes.push(job(1, 10, 0, Kind::Webhook), NOW);
    lanes.push(job(2, 20, 0, Kind::Webhook), NOW);
    assert_eq!(order(&mut lanes), [10]);
    lanes.done(one, LaneOutcome::Untried, SOON, NOW);
    assert_eq!(lanes.next_paced(), Some(NOW), "sooner than it was thought");
    assert!(lanes.wake_paced(NOW));
    assert_eq!(order(&mut lanes), [20]);
    lanes.push(job(1, 11, 0, Kind::Webhook), NOW);
    assert!(lanes.next(NOW).is_none());
    // Where the rate goes, nothing waits; and it is not found new by who comes back to it.
    lanes.set_terms(one, &terms(8, None));
    assert!(lanes.wake_paced(NOW));
    assert_eq!(order(&mut lanes), [11]);
    lanes.done(other, LaneOutcome::Success, SOON, NOW);
    lanes.forget(other);
    lanes.wake(NOW);
    lanes.set_terms(other, &shared("a", 6));
    lanes.push(job(2, 21, 0, Kind::Webhook), NOW);
    assert!(lanes.next(NOW).is_none());
    let full = NOW.plus(Duration::from_secs(10));
    assert!(lanes.wake_paced(full));
    assert_eq!(lanes.next(full).map(|turn| turn.job.id.as_u128()), Some(21));
    lanes.done(other, LaneOutcome::Success, SOON, full);
    lanes.forget(other);
    lanes.wake(full.plus(Duration::from_secs(10)));
    assert!(lanes.rates.is_empty() && lanes.paced.is_empty());
}

#[test]
fn memory_has_room_for_the_next_tokens_of_all_together() {
    let mut lanes = lanes(32);
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for endpoint in [one, other] {
        lanes.set_terms(endpoint, &shared("a", 60));
    }
    assert_eq!(lanes.room(one, false, NOW), 3);
    for id in 0..3 {
        lanes.push(job(1, id, 0, Kind::Webhook), NOW);
    }
    assert_eq!(lanes.room(other, false, NOW), 0);
    assert!(!lanes.admits(other, NOW) && !lanes.admits(one, NOW));
    assert!(lanes.next(NOW).is_some());
    // The second one asked: what is free in a second is its own.
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(lanes.room(one, false, later), 0);
    assert_eq!((lanes.first_before(one), lanes.first_before(other)), (Some(other), None));
    assert_eq!(lanes.room(other, false, later), 1);
}

#[test]
fn a_lane_has_a_cap_of_its_own() {
    let mut lanes = lanes(2);
    lanes.set_terms(Uuid::from_u128(1), &terms(3, None));
    lanes.set_terms(Uuid::from_u128(2), &terms(2, None));
    assert_eq!(lanes.by_endpoint.len(), 1, "what is usual takes no place");
    for id in 0..5 {
        lanes.push(job(1, 10 + id, 0, Kind::Webhook), NOW);
        lanes.push(job(2, 20 + id, 0, Kind::Webhook), NOW);
    }
    assert_eq!(order(&mut lanes), [10, 20, 11, 21, 12]);
    assert_eq!(lanes.room(Uuid::from_u128(1), false, NOW), 0);
}

#[test]
fn what_is_over_the_rate_waits_and_others_go_on() {
    let mut lanes = lanes(8);
    let slow = Uuid::from_u128(1);
    lanes.set_terms(slow, &terms(8, Some(120)));
    for id in 0..5 {
        lanes.push(job(1, 10 + id, 0, Kind::Webhook), NOW);
        lanes.push(job(2, 20 + id, 0, Kind::Webhook), NOW);
    }
    // Two a second: what fits in one second goes at once, and no worker waits for the rest.
    assert_eq!(order(&mut lanes), [10, 20, 11, 21, 22, 23, 24]);
    let half = Duration::from_millis(500);
    assert_eq!(lanes.next_paced(), Some(NOW.plus(half)));
    assert!(!lanes.wake_paced(NOW) && lanes.next(NOW).is_none());
    let later = NOW.plus(half);
    assert!(lanes.wake_paced(later));
    assert_eq!(lanes.next(later).map(|turn| turn.job.id.as_u128()), Some(12));
    assert!(lanes.next(later).is_none());
    // One that was not tried gives its token back.
    lanes.done(slow, LaneOutcome::Untried, SOON, later);
    assert_eq!(lanes.next(later).map(|turn| turn.job.id.as_u128()), Some(13));
    assert_eq!(lanes.next_paced(), Some(later.plus(half)));
}

#[test]
fn a_paced_lane_takes_no_more_into_memory_than_its_next_tokens() {
    let mut lanes = lanes(32);
    let slow = Uuid::from_u128(1);
    lanes.set_terms(slow, &terms(32, Some(60)));
    assert_eq!(lanes.room(slow, false, NOW), 3, "one now, two within the horizon");
    // Of what is accepted together as many: they are placed before any of them arrives.
    let taken = (0..10).filter(|_| lanes.admits(slow, NOW)).count();
    assert_eq!(taken, 3);
    for id in 0..3 {
        lanes.push(job(1, id, 0, Kind::Webhook), NOW);
    }
    assert_eq!(lanes.room(slow, false, NOW), 0);
    assert!(!lanes.admits(slow, NOW.plus(Duration::from_millis(900))));
    assert!(lanes.admits(Uuid::from_u128(2), NOW));
}

#[test]
fn an_idle_moment_does_not_fill_a_bucket() {
    let mut lanes = lanes(8);
    let slow = Uuid::from_u128(1);
    lanes.set_terms(slow, &terms(8, Some(6)));
    lanes.push(job(1, 1, 0, Kind::Webhook), NOW);
    assert_eq!(order(&mut lanes), [1]);
    lanes.done(slow, LaneOutcome::Success, SOON, NOW);
    lanes.push(job(1, 2, 0, Kind::Webhook), NOW);
    assert!(lanes.next(NOW).is_none() && lanes.is_paced_anew());
    let full = NOW.plus(Duration::from_secs(10));
    assert!(lanes.wake_paced(full));
    assert!(lanes.next(full).is_some());
    lanes.forget(slow);
    lanes.done(slow, LaneOutcome::Success, SOON, full);
    lanes.forget(slow);
    assert!(lanes.by_endpoint.is_empty() && lanes.paced.is_empty());
}

#[test]
fn first_attempts_go_ahead_of_retries() {
    let mut lanes = lanes(8);
    lanes.push(job(1, 1, 3, Kind::Webhook), NOW);
    lanes.push(job(1, 2, 0, Kind::Webhook), NOW);
    assert_eq!(order(&mut lanes), [2, 1]);
}

#[test]
fn retries_are_not_put_off_for_ever() {
    let mut lanes = lanes(64);
    lanes.push(job(1, 1_000, 3, Kind::Webhook), NOW);
    for id in 0..20 {
        lanes.push(job(1, id, 0, Kind::Webhook), NOW);
    }
    let order = order(&mut lanes);
    assert_eq!(order.iter().position(|id| *id == 1_000), Some(usize::from(AHEAD_LIMIT)));
}

#[test]
fn hanging_lanes_leave_workers_for_others() {
    let mut lanes = lanes(32);
    for endpoint in 1..=40 {
        for id in 0..40 {
            lanes.push(job(endpoint, endpoint * 100 + id, 0, Kind::Webhook), NOW);
        }
    }
    let taken = order(&mut lanes).len();
    assert!(taken < 100, "{taken} of 100 workers are taken by lanes that never end");
    lanes.push(job(99, 1, 0, Kind::Webhook), NOW);
    assert_eq!(order(&mut lanes), [1], "a lane with nothing under way gets a worker");
}

#[test]
fn a_starved_lane_goes_on_when_others_end() {
    let mut lanes = lanes(32);
    for endpoint in 1..=200 {
        lanes.push(job(endpoint, endpoint * 2, 0, Kind::Webhook), NOW);
        lanes.push(job(endpoint, endpoint * 2 + 1, 0, Kind::Webhook), NOW);
    }
    let mut under_way: VecDeque<Uuid> = VecDeque::new();
    let mut sent = 0;
    loop {
        while let Some(turn) = lanes.next(NOW) {
            under_way.push_back(turn.job.endpoint_id);
            sent += 1;
        }
        let Some(endpoint) = under_way.pop_front() else { break };
        lanes.done(endpoint, LaneOutcome::Success, SOON, NOW);
    }
    assert_eq!(sent, 400, "nothing is left behind");
    assert_eq!((lanes.busy(), lanes.waiting()), (0, 0));
    assert!(lanes.by_endpoint.is_empty());
}

#[test]
fn a_remembered_pause_holds_until_its_end() {
    let mut lanes = lanes(8);
    let until = NOW.plus(Duration::from_secs(9));
    lanes.pause(Uuid::from_u128(1), until, NOW);
    assert!(!lanes.admits(Uuid::from_u128(1), NOW));
    assert_eq!(lanes.room(Uuid::from_u128(1), false, NOW), 0);
    assert_eq!(lanes.room(Uuid::from_u128(1), false, until), 1);
}

#[test]
fn ordered_lanes_send_one_at_a_time() {
    let mut lanes = lanes(8);
    lanes.push(job(1, 1, 0, Kind::OrderedWebhook), NOW);
    lanes.push(job(1, 2, 0, Kind::OrderedWebhook), NOW);
    assert_eq!(order(&mut lanes), [1]);
    lanes.done(Uuid::from_u128(1), LaneOutcome::Success, SOON, NOW);
    assert_eq!(order(&mut lanes), [2]);
}

#[test]
fn an_open_breaker_gives_everything_back_and_probes_once() {
    let mut lanes = lanes(8);
    let endpoint = Uuid::from_u128(1);
    for id in 0..5 {
        lanes.push(job(1, id, 0, Kind::Webhook), NOW);
    }
    for _ in 0..3 {
        assert!(lanes.next(NOW).is_some());
    }
    lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
    lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
    let after = lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
    let (until, back) = after.paused.expect("the third failure opens it");
    assert_eq!(back.len(), 2);
    assert!(!lanes.admits(endpoint, NOW));
    assert_eq!(lanes.room(endpoint, false, NOW), 0);
    assert_eq!(lanes.room(endpoint, false, until), 1, "one probe");
    lanes.push(job(1, 9, 1, Kind::Webhook), until);
    assert_eq!(lanes.next(until).map(|turn| turn.job.id.as_u128()), Some(9));
    assert!(lanes.done(endpoint, LaneOutcome::Success, SOON, until).resumed);
    assert!(lanes.admits(endpoint, until));
    assert!(lanes.by_endpoint.is_empty(), "an idle lane is forgotten");
}

#[test]
fn what_came_in_during_a_pause_is_the_probe() {
    let mut lanes = lanes(8);
    let endpoint = Uuid::from_u128(1);
    for id in 0..3 {
        lanes.push(job(1, id, 0, Kind::Webhook), NOW);
    }
    assert_eq!(order(&mut lanes).len(), 3);
    let mut until = None;
    for _ in 0..3 {
        let after = lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
        until = until.or(after.paused.map(|(until, _)| until));
    }
    let until = until.expect("it pauses");
    // Its place was taken before the pause; its commit took longer.
    lanes.push(job(1, 9, 0, Kind::Webhook), NOW);
    lanes.wake(NOW);
    assert!(lanes.next(NOW).is_none());
    lanes.wake(until);
    assert_eq!(lanes.next(until).map(|turn| turn.job.id.as_u128()), Some(9));
}
