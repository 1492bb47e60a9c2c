//! What a certificate says of itself, for people: read from its DER as far as names and times go
//! (RFC 5280 section 4.1). Nothing is believed by it; verification is rustls' own.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};

/// Names of a certificate that are shown.
const MOST_NAMES: usize = 5;

/// Longest name that is shown, in characters.
const LONGEST_NAME: usize = 100;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `dNSName` in a `GeneralName`.
const DNS_NAME: u8 = 0x82;
/// `id-at-commonName`, `id-at-organizationName`, `id-ce-subjectAltName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// What is wrong with a certificate, as far as it matters for what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateFault {
    Expired,
    NotYetValid,
    OtherName,
    SelfSigned,
    UnknownIssuer,
    Revoked,
    NotPinned,
    Other,
}

impl CertificateFault {
    fn of(error: &Error, is_self_signed: bool) -> Self {
        let Error::InvalidCertificate(error) = error else { return Self::Other };
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::Revoked => Self::Revoked,
            _ if is_self_signed => Self::SelfSigned,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            _ => Self::Other,
        }
    }

    /// What is wrong, as the end of a sentence.
    const fn words(self) -> &'static str {
        match self {
            Self::Expired => "has expired",
            Self::NotYetValid => "is not valid yet",
            Self::OtherName => "is made for other names",
            Self::SelfSigned => "is self-signed",
            Self::UnknownIssuer => "comes from an issuer that is not trusted here",
            Self::Revoked => "was revoked",
            Self::NotPinned => "is not the one that the webhook pins",
            Self::Other => "is not acceptable",
        }
    }

    /// The ways out.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Expired => {
                "The receiver's certificate has expired, or its clock or ours is wrong. Renew it there; where that should happen by itself, look why it did not, and whether the receiver was reloaded since."
            }
            Self::NotYetValid => {
                "The receiver's certificate is valid from a later time on. Look at the clock of the machine that issued it, and at ours."
            }
            Self::OtherName => {
                "The receiver's certificate is made for other names. Use one of those in the URL, or get a certificate for this name; with a load balancer, look which certificate it presents for this name."
            }
            Self::SelfSigned => {
                "The receiver presents a certificate that it signed itself. Get one from a public authority, such as Let's Encrypt; or have the operator trust it in egress.ca_file, or give the webhook its own CA where it is the org's own; in an org for development, pin this certificate (tls.pinnedCertificate)."
            }
            Self::UnknownIssuer => {
                "Nobody whom this server trusts issued the receiver's certificate. Most often it sends its own certificate only: have it send the intermediate ones too (the full chain). From a private authority: have the operator trust it in egress.ca_file, or give the webhook its own CA where it is the org's own."
            }
            Self::NotPinned => {
                "The receiver presents another certificate than the one that is pinned. Where it was renewed, give the webhook the new one (tls.pinnedCertificate); else look whether the name leads to the right machine."
            }
            Self::Revoked => "The receiver's certificate was revoked by its issuer. Get a new one.",
            Self::Other => {
                "The receiver's certificate cannot be accepted. Check it with `openssl s_client -connect host:443 -servername host`."
            }
        }
    }
}

/// A certificate was refused: which, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the certificate {certificate} {}: {why}", fault.words())]
pub(super) struct CertificateRefused {
    pub(super) fault: CertificateFault,
    certificate: Described,
    why: String,
}

impl CertificateRefused {
    pub(super) fn new(certificate: &CertificateDer<'_>, error: &Error) -> Self {
        let certificate = Described::read(certificate);
        let fault = CertificateFault::of(error, certificate.is_self_signed);
        Self { fault, certificate, why: error.to_string() }
    }

    /// It is another one than the one that is pinned.
    pub(super) fn not_pinned(certificate: &CertificateDer<'_>) -> Self {
        let fault = CertificateFault::NotPinned;
        let digest = digest(&SHA256, certificate);
        let hex = digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a text cannot fail.
            let _ = fmt::Write::write_fmt(&mut hex, format_args!("{byte:02x}"));
            hex
        });
        Self { fault, certificate: Described::read(certificate), why: format!("SHA-256 {hex}") }
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Described {
    subject: Option<String>,
    issuer: Option<String>,
    names: Vec<String>,
    until: Option<String>,
    is_self_signed: bool,
}

impl fmt::Display for Described {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &Option<String>| match name {
            Some(name) => format!("“{name}”"),
            None => "without a name".to_owned(),
        };
        let subject = self.subject.clone().or_else(|| self.names.first().cloned());
        formatter.write_str(&quoted(&subject))?;
        if !self.names.is_empty() {
            write!(formatter, " (for {})", self.names.join(", "))?;
        }
        if !self.is_self_signed {
            write!(formatter, " by {}", quoted(&self.issuer))?;
        }
        if let Some(until) = &self.until {
            write!(formatter, ", valid until {until},")?;
        }
        Ok(())
    }
}

impl Described {
    /// Reads what can be read; what is malformed stays empty.
    fn read(certificate: &[u8]) -> Self {
        Self::try_read(certificate).unwrap_or_default()
    }

    fn try_read(certificate: &[u8]) -> Option<Self> {
        let (whole, _) = expect(certificate, SEQUENCE)?;
        let (mut rest, _) = expect(whole, SEQUENCE)?;
        if let Some((_, after)) = expect(rest, VERSION) {
            rest = after;
        }
        // Serial number, signature algorithm.
        for _ in 0..2 {
            rest = element(rest)?.2;
        }
        let (issuer, rest) = expect(rest, SEQUENCE)?;
        let (validity, rest) = expect(rest, SEQUENCE)?;
        let (subject, rest) = expect(rest, SEQUENCE)?;
        let (_, mut rest) = expect(rest, SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, content, after)) = element(rest) {
            if tag == EXTENSIONS {
                names = alternative_names(content).unwrap_or_default();
            }
            rest = after;
        }
        let not_before = element(validity)?;
        let (tag, until, _) = element(not_before.2)?;
        Some(Self {
            subject: name_of(subject),
            issuer: name_of(issuer),
            names,
            until: date(tag, until),
            is_self_signed: issuer == subject,
        })
    }
}

/// The next element: its tag, its content, and what follows. Only definite lengths of up to four
/// bytes are in DER.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) || rest.len() < count {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        let length = digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
        (length, rest)
    };
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

/// The content of the next element, where it has a tag, and what follows.
fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// The common name, else the organisation.
fn name_of(mut sequence: &[u8]) -> Option<String> {
    let mut organization = None;
    while let Some((set, rest)) = expect(sequence, SET) {
        sequence = rest;
        let Some((pair, _)) = expect(set, SEQUENCE) else { continue };
        let Some((id, value)) = expect(pair, OBJECT_ID) else { continue };
        let Some((_, text, _)) = element(value) else { continue };
        if id == COMMON_NAME {
            return Some(shown(text));
        }
        if id == ORGANIZATION {
            organization = Some(shown(text));
        }
    }
    organization
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let (mut list, _) = expect(extensions, SEQUENCE)?;
    while let Some((extension, rest)) = expect(list, SEQUENCE) {
        list = rest;
        let (id, mut value) = expect(extension, OBJECT_ID)?;
        if id != ALTERNATIVE_NAMES {
            continue;
        }
        // `critical` may stand before the value.
        let octets = loop {
            let (tag, content, after) = element(value)?;
            if tag == OCTETS {
                break content;
            }
            value = after;
        };
        let (mut general, _) = expect(octets, SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, name, rest)) = element(general) {
            general = rest;
            if tag == DNS_NAME && names.len() < MOST_NAMES {
                names.push(shown(name));
            }
        }
        return Some(names);
    }
    None
}

/// A text of a stranger, fit to be shown.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

/// The day of a time: `YYMMDD…` or `YYYYMMDD…`.
fn date(tag: u8, text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let (year, rest) = if tag == UTC_TIME {
        let (year, rest) = text.split_at_checked(2)?;
        // RFC 5280 section 4.1.2.5.1.
        let century = if year.parse::<u8>().ok()? >= 50 { "19" } else { "20" };
        (format!("{century}{year}"), rest)
    } else {
        let (year, rest) = text.split_at_checked(4)?;
        (year.to_owned(), rest)
    };
    let (month, rest) = rest.split_at_checked(2)?;
    let (day, _) = rest.split_at_checked(2)?;
    Some(format!("{year}-{month}-{day}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn issued() -> Vec<u8> {
        let mut authority = CertificateParams::new([]).expect("parameters");
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "Example Authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::new(authority, key);
        let names = ["hooks.vendor.example".to_owned(), "vendor.example".to_owned()];
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "hooks.vendor.example");
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &issuer).expect("a certificate").der().to_vec()
    }

    #[test]
    fn names_issuer_and_end_are_read() {
        let described = Described::read(&issued());
        assert_eq!(described.subject.as_deref(), Some("hooks.vendor.example"));
        assert_eq!(described.issuer.as_deref(), Some("Example Authority"));
        assert_eq!(described.names, ["hooks.vendor.example", "vendor.example"]);
        assert_eq!(described.until.as_deref(), Some("2031-02-03"));
        assert!(!described.is_self_signed);
        assert_eq!(
            described.to_string(),
            "“hooks.vendor.example” (for hooks.vendor.example, vendor.example) by “Example Authority”, \
             valid until 2031-02-03,"
        );
    }

    #[test]
    fn malformed_ones_are_read_as_far_as_they_go() {
        let whole = issued();
        for length in 0..whole.len() {
            let _as_far_as_it_goes = Described::read(&whole[..length]);
        }
        for byte in 0..whole.len() {
            let mut broken = whole.clone();
            broken[byte] ^= 0xff;
            let _no_panic = Described::read(&broken).to_string();
        }
        assert_eq!(Described::read(b"\x30\x84\xff\xff\xff\xff"), Described::default());
    }

    #[test]
    fn every_fault_says_what_it_is_and_the_ways_out() {
        let certificate = CertificateDer::from(issued());
        for (error, fault, words, way) in [
            (CertificateError::Expired, CertificateFault::Expired, "has expired", "Renew"),
            (
                CertificateError::NotValidYet,
                CertificateFault::NotYetValid,
                "not valid yet",
                "clock",
            ),
            (CertificateError::NotValidForName, CertificateFault::OtherName, "other names", "URL"),
            (CertificateError::UnknownIssuer, CertificateFault::UnknownIssuer, "issuer", "chain"),
            (CertificateError::Revoked, CertificateFault::Revoked, "revoked", "new one"),
            (CertificateError::BadEncoding, CertificateFault::Other, "not acceptable", "openssl"),
        ] {
            let refused = CertificateRefused::new(&certificate, &Error::InvalidCertificate(error));
            assert_eq!(refused.fault, fault);
            let text = refused.to_string();
            assert!(text.contains("hooks.vendor.example") && text.contains(words), "{text}");
            assert!(fault.hint().contains(way), "{}", fault.hint());
        }
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(CertificateFault::of(&unknown, true), CertificateFault::SelfSigned);
    }
}
