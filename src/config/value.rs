//! Raw values and how each kind of them is read.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use super::address::{AllowedNetwork, Origin, SecretUrl};
use super::settings::Kind;

/// A value before it is understood.
#[derive(Clone)]
pub(crate) enum Raw {
    /// From a place that knows only text: a variable, a flag, a default.
    Plain(String),
    /// A string of TOML or JSON.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// A list.
    List(Vec<Raw>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

impl Raw {
    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this says "nothing": the way in which a variable takes back what a file set.
    pub(crate) fn is_empty_text(&self) -> bool {
        self.text().is_some_and(str::is_empty)
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Plain(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The entries; plain text is split at commas, or read as JSON where it looks like that.
    fn entries(&self) -> Option<Vec<Raw>> {
        match self {
            Self::List(entries) => Some(entries.clone()),
            Self::Plain(text) => Some(split_plain_list(text)),
            _ => None,
        }
    }

    /// How a fault shows it: short, with control characters escaped.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Plain(text) | Self::Text(text) => {
                let short: String = text.chars().take(80).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("{short:?}{dots}")
            }
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Other(kind) => format!("a value of type {kind}"),
        }
    }
}

fn split_plain_list(text: &str) -> Vec<Raw> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    if text.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text)
    {
        return values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Raw::Text(text),
                serde_json::Value::Bool(value) => Raw::Boolean(value),
                serde_json::Value::Number(number) => {
                    number.as_i64().map_or(Raw::Other("float"), Raw::Integer)
                }
                serde_json::Value::Null => Raw::Other("null"),
                serde_json::Value::Array(_) => Raw::Other("array"),
                serde_json::Value::Object(_) => Raw::Other("object"),
            })
            .collect();
    }
    text.split(',').map(|entry| Raw::Plain(entry.trim().to_owned())).collect()
}

/// Why a raw value breaks its kind's rule: what to add to the rule's own words, often nothing.
pub(crate) type Broken = String;

/// Reads a duration: a whole number and a unit, `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that is exact.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Reads a size: a whole number of bytes, or one with `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Writes a size as [`parse_size`] reads it, in the largest unit that is exact.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
    ];
    for (unit, size) in units {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// A duration within its kind's bounds.
pub(crate) fn duration(raw: &Raw, kind: &Kind) -> Result<Duration, Broken> {
    let duration = raw.text().and_then(parse_duration).ok_or_else(Broken::new)?;
    match kind {
        Kind::Duration { least, most } if duration < *least || duration > *most => {
            Err(Broken::new())
        }
        _ => Ok(duration),
    }
}

/// A size in bytes within its kind's bounds.
pub(crate) fn size(raw: &Raw, kind: &Kind) -> Result<usize, Broken> {
    let bytes = match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        _ => raw.text().and_then(parse_size),
    }
    .ok_or_else(Broken::new)?;
    match kind {
        Kind::Size { least, most } if bytes < *least || bytes > *most => Err(Broken::new()),
        _ => usize::try_from(bytes).map_err(|_| Broken::new()),
    }
}

/// A whole number within its kind's bounds.
pub(crate) fn integer<T: TryFrom<i64>>(raw: &Raw, kind: &Kind) -> Result<T, Broken> {
    let number = raw.integer().ok_or_else(Broken::new)?;
    match kind {
        Kind::Integer { least, most } if number < *least || number > *most => Err(Broken::new()),
        _ => T::try_from(number).map_err(|_| Broken::new()),
    }
}

/// `true` or `false`.
pub(crate) fn switch(raw: &Raw, _: &Kind) -> Result<bool, Broken> {
    match raw {
        Raw::Boolean(value) => Ok(*value),
        Raw::Plain(text) => text.parse().map_err(|_| Broken::new()),
        _ => Err(Broken::new()),
    }
}

/// An address to listen on.
pub(crate) fn listener(raw: &Raw, _: &Kind) -> Result<std::net::SocketAddr, Broken> {
    raw.text().and_then(|text| text.parse().ok()).ok_or_else(Broken::new)
}

/// A network, or a single address.
pub(crate) fn subnet(raw: &Raw, _: &Kind) -> Result<IpNet, Broken> {
    let text = raw.text().ok_or_else(Broken::new)?;
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| Broken::new())?,
    };
    if network.trunc() != network {
        return Err(format!("; bits are set behind its prefix: write {}", network.trunc()));
    }
    Ok(network)
}

/// A path of the file system.
pub(crate) fn path(raw: &Raw, _: &Kind) -> Result<PathBuf, Broken> {
    match raw.text() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(PathBuf::from(text)),
        _ => Err(Broken::new()),
    }
}

/// A text without control characters, within its kind's length.
pub(crate) fn text(raw: &Raw, kind: &Kind) -> Result<String, Broken> {
    let text = raw.text().ok_or_else(Broken::new)?;
    let most = if let Kind::Text { most } = kind { *most } else { usize::MAX };
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(Broken::new());
    }
    Ok(text.to_owned())
}

/// A scope (RFC 6749, section 3.3, without the separators of providers), or the beginning of some
/// with a `*` behind it.
pub(crate) fn scope(raw: &Raw, _: &Kind) -> Result<String, Broken> {
    let text = raw.text().ok_or_else(Broken::new)?;
    let stem = text.strip_suffix('*').unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b",*\"\\".contains(&byte);
    if text.is_empty() || text.len() > 200 || !stem.bytes().all(allowed) {
        return Err(Broken::new());
    }
    Ok(text.to_owned())
}

/// The name of an HTTP authentication scheme (RFC 9110, section 5.6.2: a token).
pub(crate) fn scheme(raw: &Raw, _: &Kind) -> Result<String, Broken> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match raw.text() {
        Some(text) if (1..=64).contains(&text.len()) && text.bytes().all(allowed) => {
            Ok(text.to_owned())
        }
        _ => Err(Broken::new()),
    }
}

/// One of the kind's words.
pub(crate) fn choice(raw: &Raw, kind: &Kind) -> Result<&'static str, Broken> {
    let Kind::Choice(words) = kind else { return Err(Broken::new()) };
    words.iter().find(|word| raw.text() == Some(word)).copied().ok_or_else(Broken::new)
}

/// A secret.
pub(crate) fn secret(raw: &Raw, _: &Kind) -> Result<SecretString, Broken> {
    match raw.text() {
        Some(text)
            if (1..=4_096).contains(&text.len())
                && text.trim() == text
                && !text.chars().any(char::is_control) =>
        {
            Ok(SecretString::from(text))
        }
        _ => Err(Broken::new()),
    }
}

/// A key that signs Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes, or a plain text of
/// 24 characters and more.
pub(crate) fn signing_secret(raw: &Raw, kind: &Kind) -> Result<SecretString, Broken> {
    use base64::Engine as _;
    let secret = secret(raw, kind)?;
    let text = raw.text().unwrap_or_default();
    let long_enough = match text.strip_prefix("whsec_") {
        Some(encoded) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .is_ok_and(|bytes| (24..=64).contains(&bytes.len())),
        None => text.len() >= 24,
    };
    if long_enough { Ok(secret) } else { Err(Broken::new()) }
}

/// An absolute http or https URL without credentials and fragment.
pub(crate) fn url(raw: &Raw, _: &Kind) -> Result<Url, Broken> {
    let url = raw.text().and_then(|text| Url::parse(text).ok()).ok_or_else(Broken::new)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Broken::new());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("; it must not hold a user name or password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("; it must not have a fragment".to_owned());
    }
    Ok(url)
}

/// An issuer identifier, kept as it was written because it is compared as text (RFC 9207).
pub(crate) fn issuer(raw: &Raw, kind: &Kind) -> Result<String, Broken> {
    let url = url(raw, kind)?;
    if url.query().is_some() {
        return Err("; it must not have a query".to_owned());
    }
    raw.text().map(str::to_owned).ok_or_else(Broken::new)
}

/// Scheme, host and port and nothing else.
pub(crate) fn origin(raw: &Raw, _: &Kind) -> Result<Origin, Broken> {
    raw.text().ok_or_else(Broken::new)?.parse().map_err(|error| format!("; {error}"))
}

/// An http or https URL of a proxy, credentials allowed.
pub(crate) fn proxy_url(raw: &Raw, _: &Kind) -> Result<SecretUrl, Broken> {
    let text = raw.text().ok_or_else(Broken::new)?;
    SecretUrl::new(text, &["http", "https"]).ok_or_else(Broken::new)
}

/// Networks that `egress` may call although they are not public.
pub(crate) fn network(raw: &Raw, _: &Kind) -> Result<AllowedNetwork, Broken> {
    raw.text().ok_or_else(Broken::new)?.parse().map_err(|error| format!("; {error}"))
}

/// A filter of log lines.
pub(crate) fn log_filter(raw: &Raw, _: &Kind) -> Result<String, Broken> {
    let text = raw.text().filter(|text| !text.is_empty()).ok_or_else(Broken::new)?;
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("; {error}")),
    }
}

/// A list of whatever `entry` reads.
pub(crate) fn list<T>(
    entry: impl Fn(&Raw, &Kind) -> Result<T, Broken>,
) -> impl Fn(&Raw, &Kind) -> Result<Vec<T>, Broken> {
    move |raw, kind| {
        let entry_kind = if let Kind::List { of, .. } = kind { of } else { kind };
        let entries = raw.entries().ok_or_else(Broken::new)?;
        if let Kind::List { least, most, .. } = kind
            && !(*least..=*most).contains(&entries.len())
        {
            return Err(format!("; it has {} entries", entries.len()));
        }
        let read = entries.iter().enumerate().map(|(index, raw)| {
            entry(raw, entry_kind)
                .map_err(|more| format!("; entry {} is {}{more}", index + 1, raw.shown()))
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("30d"), Some(Duration::from_hours(30 * 24)));
        for bad in ["", "10", "s", "-1s", "1.5h", "1h30m", "99999999999999999999s", "9e9d", "1 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(parse_duration("18446744073709551615d"), None, "no overflow");
    }

    #[test]
    fn durations_and_sizes_are_written_as_they_are_read() {
        for text in ["1ms", "1500ms", "59s", "90s", "5m", "2h", "30d"] {
            assert_eq!(parse_duration(text).map(duration_text).as_deref(), Some(text));
        }
        for text in ["1B", "1023B", "1KiB", "64MiB", "20MB", "8GiB"] {
            assert_eq!(parse_size(text).map(size_text).as_deref(), Some(text));
        }
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        assert_eq!(parse_size("8MiB"), Some(8_388_608));
        assert_eq!(parse_size("20 MB"), Some(20_000_000));
        assert_eq!(parse_size("512"), Some(512));
        for bad in ["", "MiB", "1 TiB", "-1", "1.5MB", "99999999999GiB", "1 mb"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_lists_are_comma_separated_or_json() {
        let texts = |raw: &str| -> Vec<String> {
            split_plain_list(raw).iter().filter_map(|raw| raw.text().map(str::to_owned)).collect()
        };
        assert_eq!(texts("a, b ,c"), ["a", "b", "c"]);
        assert_eq!(texts(r#"["a, b","c"]"#), ["a, b", "c"]);
        assert_eq!(texts("  "), Vec::<String>::new());
        assert_eq!(texts("[::1]:8080"), ["[::1]:8080"], "an address in brackets is not JSON");
    }

    #[test]
    fn numbers_in_files_are_numbers() {
        let kind = Kind::Integer { least: 1, most: 10 };
        assert_eq!(integer::<u32>(&Raw::Plain("3".into()), &kind), Ok(3));
        assert_eq!(integer::<u32>(&Raw::Integer(3), &kind), Ok(3));
        assert!(integer::<u32>(&Raw::Text("3".into()), &kind).is_err());
        assert!(integer::<u32>(&Raw::Integer(11), &kind).is_err());
    }

    #[test]
    fn networks_are_whole_and_single_addresses_are_networks() {
        let read = |text: &str| subnet(&Raw::Plain(text.into()), &Kind::Subnet);
        assert_eq!(read("10.0.0.0/8").map(|net| net.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(read("192.0.2.7").map(|net| net.to_string()), Ok("192.0.2.7/32".to_owned()));
        assert_eq!(read("fd00::1").map(|net| net.prefix_len()), Ok(128));
        assert_eq!(
            read("10.0.0.1/8"),
            Err("; bits are set behind its prefix: write 10.0.0.0/8".to_owned())
        );
        for bad in ["", "desk.example", "10.0.0.0/33", "10.0.0.0/8:80", "[fd00::1]"] {
            assert_eq!(read(bad), Err(String::new()), "{bad}");
        }
    }

    #[test]
    fn signing_secrets_are_long_enough_to_sign_with() {
        let read = |text: &str| signing_secret(&Raw::Plain(text.into()), &Kind::SigningSecret);
        assert!(read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        assert!(read("a plain text of many letters").is_ok());
        for bad in [
            "short",
            "whsec_AAAA",
            "whsec_not base64 at all, but long",
            " padded with spaces at both ends ",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
