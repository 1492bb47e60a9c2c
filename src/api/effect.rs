//! Effects that may be asked for twice: the kept answer and the effect are one transaction.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::answers::{AnswerGuard, AnswerKey, Begun};
use super::extract::json_bytes;
use super::problem::Problem;
use super::state::ApiState;
use crate::store::{StoreError, UnitOfWork};

/// A request that is being answered for the first time.
#[derive(Debug, Default)]
pub(super) struct Effect {
    guards: Vec<AnswerGuard>,
}

/// How often an effect is begun anew that gave way to another.
const MOST_TURNS: u32 = 5;

/// The pause before the first turn anew, about; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Counts how often an effect met another transaction (deadlock, serialisation failure) and gave
/// way: it is begun anew a few times before the caller is told.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: u32,
}

impl Turns {
    /// What a turn came to; nothing where there is to be another.
    pub(super) async fn over(
        &mut self,
        state: &ApiState,
        done: Result<Response, Problem>,
    ) -> Option<Result<Response, Problem>> {
        match done {
            Err(problem) if problem.is_contention() && self.taken < MOST_TURNS => {
                let seam = state.seam();
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.taken);
                self.taken += 1;
                seam.clock.sleep(pause.mul_f64(0.5 + seam.randomness.fraction())).await;
                None
            }
            done => Some(done),
        }
    }
}

/// What a request came to before its effect.
#[derive(Debug)]
pub(super) enum Start {
    /// It was answered before.
    Answered(Box<Response>),
    /// It is to be answered.
    Fresh(Effect),
}

impl Effect {
    /// Looks whether the request was answered before, under any of its keys.
    pub(super) async fn start(
        state: &ApiState,
        keys: impl IntoIterator<Item = AnswerKey>,
    ) -> Result<Start, Problem> {
        let mut guards = Vec::new();
        for key in keys {
            match state.answers().begin(Some(key)).await? {
                Begun::Replay(answer) => {
                    return Ok(Start::Answered(Box::new(answer.into_response())));
                }
                Begun::Fresh(guard) => guards.push(guard),
            }
        }
        Ok(Start::Fresh(Self { guards }))
    }

    /// Keeps the answer in the effect's transaction, commits, and answers when routing has settled.
    pub(super) async fn finish(
        &self,
        state: &ApiState,
        work: UnitOfWork,
        status: StatusCode,
        body: &impl Serialize,
    ) -> Result<Response, Problem> {
        let bytes = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
        let now = state.seam().clock.now();
        for guard in &self.guards {
            if let Err(error) = guard.keep(&work, status, &bytes, now).await {
                work.rollback().await?;
                // Another node was first with the same request: its answer is the answer.
                if matches!(error, StoreError::Conflict)
                    && let Some(answer) = state.answers().after_conflict(guard.key()).await?
                {
                    return Ok(answer.into_response());
                }
                return Err(error.into());
            }
        }
        state.services()?.lifecycle.commit(work).await?;
        Ok(json_bytes(status, bytes))
    }
}
