//! Reads the texts of JSON: quotes, escapes, and what people write instead of them.

use super::code;
use super::json::{Span, shown};
use super::parse::{Lost, Parser};

impl Parser<'_> {
    pub(super) fn string(&mut self) -> Result<String, Lost> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let from = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1F)) {
                self.at += 1;
            }
            text.push_str(&self.text[from..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape_sequence(&mut text)?,
                Some(b'\n' | b'\r') => {
                    let span = Span { start, end: self.at };
                    let message = "this text is not closed on its line".to_owned();
                    let hint = "close it with `\"`, or write a line break as `\\n`";
                    self.note(code::JSON_STRING, span, message, hint);
                    return Err(Lost);
                }
                Some(control) => {
                    let message = format!("the control character U+{control:04X} is in a text");
                    let hint = format!("write it as `\\u{control:04x}`");
                    self.note(code::JSON_STRING, self.one(), message, &hint);
                    text.push(char::from(control));
                    self.at += 1;
                }
                None => return Err(self.truncated()),
            }
        }
    }

    fn escape_sequence(&mut self, text: &mut String) -> Result<(), Lost> {
        let start = self.at;
        let Some(&letter) = self.bytes.get(start + 1) else {
            self.at = self.bytes.len();
            return Err(self.truncated());
        };
        let plain = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let character = self.unicode();
                if character.is_none() {
                    let end = self.boundary(self.at.max(start + 2));
                    let message = "this is not half of a character, nor a whole one".to_owned();
                    let hint = "write `\\u` with four hexadecimal digits, and pairs where needed";
                    self.note(code::JSON_STRING, Span { start, end }, message, hint);
                    self.at = end;
                }
                text.push(character.unwrap_or('\u{FFFD}'));
                return Ok(());
            }
            _ => {
                let end = self.boundary(start + 2);
                let message = format!("`{}` means nothing in JSON", shown(&self.text[start..end]));
                self.note(
                    code::JSON_STRING,
                    Span { start, end },
                    message,
                    "write `\\\\` for a backslash",
                );
                self.at = start + 1;
                return Ok(());
            }
        };
        text.push(plain);
        self.at = start + 2;
        Ok(())
    }

    /// Reads `\u` with its four digits, and a second one where the first is half of a pair. Moves behind it.
    fn unicode(&mut self) -> Option<char> {
        let unit = |at: usize| {
            let digits = self.bytes.get(at + 2..at + 6)?;
            let escaped = self.bytes.get(at..at + 2) == Some(b"\\u");
            (escaped && digits.iter().all(u8::is_ascii_hexdigit))
                .then(|| u32::from_str_radix(self.text.get(at + 2..at + 6)?, 16).ok())?
        };
        let start = self.at;
        let first = unit(start)?;
        if !(0xD800..0xE000).contains(&first) {
            self.at = start + 6;
            return char::from_u32(first);
        }
        let second = unit(start + 6).filter(|low| (0xDC00..0xE000).contains(low));
        match second {
            Some(low) if first < 0xDC00 => {
                self.at = start + 12;
                char::from_u32(0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00))
            }
            _ => {
                self.at = start + 6;
                None
            }
        }
    }

    /// Reads a text in other quotes than JSON's, where there is one.
    pub(super) fn misquoted(&mut self) -> Result<Option<String>, Lost> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let Some(open) =
            rest.chars().next().filter(|&quote| "'`\u{201C}\u{201D}\u{201E}".contains(quote))
        else {
            return Ok(None);
        };
        let closes = |character: char| match open {
            '\'' | '`' => character == open || character == '\n',
            _ => "\u{201C}\u{201D}\"\n".contains(character),
        };
        let inner = &rest[open.len_utf8()..];
        let Some((length, close)) = inner.char_indices().find(|&(_, character)| closes(character))
        else {
            self.at = self.bytes.len();
            return Err(self.truncated());
        };
        let inside = start + open.len_utf8();
        if close == '\n' {
            let span = Span { start, end: inside + length };
            let message = "this text is not in double quotes".to_owned();
            self.note(code::JSON_SYNTAX, span, message, "put it in straight double quotes (`\"`)");
            return Err(Lost);
        }
        let text = inner[..length].to_owned();
        self.at = inside + length + close.len_utf8();
        let span = Span { start, end: self.at };
        let message = format!("JSON has no `{open}` quotes");
        self.note(code::JSON_SYNTAX, span, message, "use straight double quotes (`\"`)");
        Ok(Some(text))
    }
}
