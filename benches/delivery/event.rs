//! The bytes of events: what the host sends, and what must arrive.

use std::fmt::Write as _;

/// How large a payload is.
pub(crate) const PAYLOAD_BYTES: usize = 1_024;

/// What a payload begins with, before the number.
const PAYLOAD_HEAD: &str = "{\"id\":\"";

/// What a delivery begins with, before the number.
const DELIVERY_HEAD: &str = "[{\"payload\":{\"id\":\"";

/// How many digits the number of an event has: three of its run, nine of its own.
const DIGITS: usize = 12;

/// What stands for an org of eight digits in a template.
const ORG: &str = "60000000";

/// An event of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Which run.
    pub(crate) run: usize,
    /// Which of its events.
    pub(crate) event: usize,
}

/// The id of an org by its number.
pub(crate) fn org(number: usize) -> String {
    format!("6{number:07}")
}

fn write_digits(place: &mut [u8], mut value: usize) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

fn read_digits(text: &[u8]) -> Option<usize> {
    text.iter().try_fold(0_usize, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| usize::from(byte - b'0'))?;
        Some(value * 10 + digit)
    })
}

/// What follows the number in a payload.
fn payload_tail() -> String {
    let mut tail = String::from(
        "\",\"ticketNumber\":\"1042\",\"departmentId\":\"7000000001\",\"status\":\"Open\",\
         \"priority\":\"High\",\"channel\":\"Email\",\"isSpam\":false,\"threadCount\":3,\
         \"contact\":{\"id\":\"9001\",\"lastName\":\"Mayer\",\"email\":\"mayer@example.com\"},\
         \"subject\":\"The printer on the second floor does not print\",\"description\":\"",
    );
    let words = "It was switched off and on again, and says that the tray is empty. ";
    let rest = PAYLOAD_BYTES - PAYLOAD_HEAD.len() - DIGITS - tail.len() - 2;
    tail.extend(words.chars().cycle().take(rest));
    tail.push_str("\"}");
    tail
}

/// The bytes of requests, made once and patched for each.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the numbers of the events stand.
    numbers: Vec<usize>,
    /// Where their orgs stand.
    orgs: Vec<usize>,
    /// Where their own ids stand, where they have some.
    keys: Vec<usize>,
}

impl Request {
    /// A request with one event (no array), or with an array of so many.
    pub(crate) fn new(authority: &str, token: &str, array: Option<usize>, keyed: bool) -> Self {
        let number = "0".repeat(DIGITS);
        let tail = payload_tail();
        let key = if keyed { format!("\"eventId\":\"{number}\",") } else { String::new() };
        let event = format!(
            "{{{key}\"eventType\":\"Ticket_Add\",\"orgId\":\"{ORG}\",\
             \"payload\":{PAYLOAD_HEAD}{number}{tail}}}"
        );
        let body = match array {
            None => event.clone(),
            Some(count) => format!("[{}]", vec![event.as_str(); count].join(",")),
        };
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let begin = head.len() + usize::from(array.is_some());
        let count = array.unwrap_or(1);
        let places = |text: &str, skip: usize| -> Vec<usize> {
            let inside = event.find(text).map(|place| place + skip);
            inside.map_or(Vec::new(), |inside| {
                (0..count).map(|index| begin + index * (event.len() + 1) + inside).collect()
            })
        };
        Self {
            numbers: places(PAYLOAD_HEAD, PAYLOAD_HEAD.len()),
            orgs: places(ORG, 0),
            keys: if keyed { places("\"eventId\":\"", 11) } else { Vec::new() },
            bytes: (head + &body).into_bytes(),
        }
    }

    /// How many events it has.
    pub(crate) fn events(&self) -> usize {
        self.numbers.len()
    }

    /// The bytes with the numbers of events from `first` on, and the org of each.
    pub(crate) fn patch(&mut self, first: Number, org: impl Fn(usize) -> usize) -> &[u8] {
        for index in 0..self.numbers.len() {
            let event = first.event + index;
            let (number, place) = (self.numbers[index], self.orgs[index]);
            let digits = first.run * 1_000_000_000 + event;
            write_digits(&mut self.bytes[number..number + DIGITS], digits);
            write_digits(&mut self.bytes[place + 1..place + ORG.len()], org(event));
            if let Some(key) = self.keys.get(index) {
                write_digits(&mut self.bytes[*key..*key + DIGITS], digits);
            }
        }
        &self.bytes
    }
}

/// Reads what was delivered and holds it to what was sent, byte for byte but for the time.
#[derive(Debug)]
pub(crate) struct Reader {
    tail: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let mut tail = payload_tail();
        // Writing to a string cannot fail.
        let _infallible = write!(tail, ",\"eventTime\":\"");
        Self { tail: tail.into_bytes() }
    }

    /// The number of the event in a body, and its org; nothing where the body is not as it must be.
    pub(crate) fn read<'a>(&self, body: &'a [u8]) -> Option<(Number, &'a [u8])> {
        let rest = body.strip_prefix(DELIVERY_HEAD.as_bytes())?;
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        let rest = rest.strip_prefix(self.tail.as_slice())?;
        let time = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let rest = rest.get(time..)?;
        let rest = rest.strip_prefix(b"\",\"eventType\":\"Ticket_Add\",\"orgId\":\"")?;
        let org = rest.strip_suffix(b"\"}]")?;
        let digits = read_digits(digits)?;
        let number = Number { run: digits / 1_000_000_000, event: digits % 1_000_000_000 };
        Some((number, org))
    }
}
