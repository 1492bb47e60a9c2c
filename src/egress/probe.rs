//! What is learned while a request is under way, and how a failure is told.

use std::error::Error as StdError;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::answer::{ErrorClass, Phases, SendError};
use super::certificate::CertificateRefused;
use super::gated::Withdrawn;
use super::tls;
use super::vetting::Refusal;

/// Longest text of an error.
const LONGEST_DETAIL: usize = 300;
/// Stands for "not measured" in a cell.
const UNSET: u32 = u32::MAX;

/// What is learned while a request is under way, also where it is cut off.
pub(super) struct Probe {
    pub(super) port: u16,
    is_https: bool,
    dns: AtomicU32,
    connect: AtomicU32,
    first_byte: AtomicU32,
    status: AtomicU16,
    refusal: OnceLock<Refusal>,
}

impl Probe {
    pub(super) fn new(port: u16, is_https: bool) -> Self {
        Self {
            port,
            is_https,
            dns: AtomicU32::new(UNSET),
            connect: AtomicU32::new(UNSET),
            first_byte: AtomicU32::new(UNSET),
            status: AtomicU16::new(0),
            refusal: OnceLock::new(),
        }
    }

    pub(super) fn resolved(&self, span: Duration) {
        self.dns.store(micros(span), Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        // The first reason is as good as any other.
        let _ = self.refusal.set(refusal);
    }

    pub(super) fn connected(&self, span: Duration) {
        let dns = get(&self.dns).unwrap_or(0);
        self.connect.store(micros(span).saturating_sub(dns), Ordering::Relaxed);
    }

    pub(super) fn answered(&self, span: Duration, status: StatusCode) {
        self.first_byte.store(micros(span), Ordering::Relaxed);
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    pub(super) fn phases(&self, total: Duration) -> Phases {
        let total_micros = micros(total);
        let first_byte_micros = get(&self.first_byte);
        Phases {
            dns_micros: get(&self.dns),
            connect_micros: get(&self.connect),
            first_byte_micros,
            body_micros: first_byte_micros.map(|first| total_micros.saturating_sub(first)),
            total_micros,
        }
    }

    pub(super) fn error(&self, class: ErrorClass, detail: String, total: Duration) -> SendError {
        SendError {
            class,
            detail,
            hint: class.hint(),
            timing: self.phases(total),
            status: StatusCode::from_u16(self.status.load(Ordering::Relaxed)).ok(),
        }
    }

    pub(super) fn timed_out(&self, total: Duration) -> SendError {
        let phase = if get(&self.first_byte).is_some() {
            "while reading the answer's body"
        } else if get(&self.connect).is_some() {
            "while waiting for the answer"
        } else {
            "before the answer, while connecting or waiting on a kept connection"
        };
        let detail = format!("the deadline passed {phase}, after {} ms", total.as_millis());
        self.error(ErrorClass::Timeout, detail, total)
    }

    /// Tells a failure: its class, and a safe text.
    pub(super) fn failed(
        &self,
        error: &(dyn StdError + 'static),
        stage: Stage,
        total: Duration,
    ) -> SendError {
        if let Some(refusal) = self.refusal.get() {
            return self.error(ErrorClass::AddressRefused, refusal.to_string(), total);
        }
        let (class, detail) = self.classify(error, stage);
        if let Some(refused) = refused_certificate(error) {
            // Which certificate it is, and the ways out of just that.
            let mut told = self.error(ErrorClass::Tls, fit(&refused.to_string()), total);
            told.hint = refused.fault.hint();
            return told;
        }
        self.error(class, detail, total)
    }

    fn classify(&self, error: &(dyn StdError + 'static), stage: Stage) -> (ErrorClass, String) {
        let mut deepest = error;
        let mut io_kind = None;
        let mut class = None;
        loop {
            if deepest.is::<Withdrawn>() {
                class = Some(ErrorClass::Withdrawn);
            } else if let Some(error) = deepest.downcast_ref::<hyper::Error>() {
                if error.is_parse() {
                    class = class.or(Some(ErrorClass::Protocol));
                } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled()
                {
                    class = class.or(Some(ErrorClass::ConnectionClosed));
                }
            } else if let Some(error) = deepest.downcast_ref::<io::Error>() {
                io_kind = io_kind.or(Some(innermost_kind(error)));
            }
            match deepest.source() {
                Some(source) => deepest = source,
                None => break,
            }
        }
        let class = class.unwrap_or_else(|| self.class_of(stage, io_kind));
        (class, fit(&deepest.to_string()))
    }

    fn class_of(&self, stage: Stage, io_kind: Option<io::ErrorKind>) -> ErrorClass {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, TimedOut, UnexpectedEof,
        };
        let is_connecting = stage == Stage::Connecting;
        match (stage, io_kind) {
            (Stage::Writing, _) => ErrorClass::InvalidRequest,
            (Stage::Resolving, _) => ErrorClass::NameResolution,
            (Stage::Overdue, _) | (_, Some(TimedOut)) => ErrorClass::Timeout,
            // While connecting, only the TLS handshake reads.
            (
                Stage::Connecting,
                Some(InvalidData | UnexpectedEof | ConnectionReset | BrokenPipe),
            ) if self.is_https => ErrorClass::Tls,
            // Reset as soon as it stood.
            (Stage::Connecting, Some(ConnectionReset | BrokenPipe)) => ErrorClass::ConnectionClosed,
            _ if is_connecting => ErrorClass::Connect,
            // A receiver that wants our certificate says so after the handshake, instead of an
            // answer. Within one it is the coding of the body that is broken.
            (_, Some(InvalidData)) if self.is_https && get(&self.first_byte).is_none() => {
                ErrorClass::Tls
            }
            (_, Some(ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)) => {
                ErrorClass::ConnectionClosed
            }
            _ => ErrorClass::Protocol,
        }
    }
}

/// A text of strangers, fit to be kept.
fn fit(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(LONGEST_DETAIL)
        .collect()
}

/// The refusal of the receiver's certificate, wherever in an error it is wrapped.
fn refused_certificate<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e CertificateRefused> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // What an I/O error holds is not its source.
            let mut inner = error.get_ref();
            while let Some(held) = inner {
                if let Some(error) = held.downcast_ref::<rustls::Error>() {
                    return tls::certificate_refused(error);
                }
                inner = held.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            }
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return tls::certificate_refused(error);
        }
        next = error.source();
    }
    None
}

/// How far a request came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It cannot be written as HTTP.
    Writing,
    /// The name.
    Resolving,
    /// TCP and TLS.
    Connecting,
    /// A phase has a time of its own, and that passed.
    Overdue,
    /// On a connection that stood.
    Exchanging,
}

/// The kind that was there before others wrapped the error, as the TLS connector does.
fn innermost_kind(error: &io::Error) -> io::ErrorKind {
    let mut innermost = error;
    while let Some(inner) = innermost.get_ref().and_then(|inner| inner.downcast_ref()) {
        innermost = inner;
    }
    innermost.kind()
}

fn get(cell: &AtomicU32) -> Option<u32> {
    Some(cell.load(Ordering::Relaxed)).filter(|value| *value != UNSET)
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(UNSET - 1).min(UNSET - 1)
}
