//! Replies of other hosts, as octets: whatever a host sends, no more than a few KiB of it are kept (pure).

use crate::mail::queue::Answer;

/// Octets of a reply line: 512 of RFC 5321, 4.5.3.1.5, and some patience.
pub const LINE_BYTES_MAX: usize = 4096;
/// Lines of a reply.
pub const LINES_MAX: usize = 128;

/// A reply: its code, and the text of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// What stands behind the code, line by line.
    pub lines: Vec<String>,
}

/// What the first digit says (RFC 5321, 4.2.1): a client decides by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 2yz.
    Done,
    /// 3yz.
    GoOn,
    /// 4yz.
    NotNow,
    /// 5yz.
    Never,
}

impl Reply {
    /// What its first digit says. [`Reader`] lets no other through.
    pub fn class(&self) -> Class {
        match self.code / 100 {
            2 => Class::Done,
            3 => Class::GoOn,
            4 => Class::NotNow,
            _ => Class::Never,
        }
    }

    /// The enhanced code, where it has one that fits its class (RFC 2034); else one that says as much.
    fn status(&self) -> String {
        let class = self.code / 100;
        let word = self.lines.first().and_then(|line| line.split(' ').next()).unwrap_or_default();
        if is_status(word) && word.starts_with(&class.to_string()) {
            return word.into();
        }
        format!("{class}.0.0")
    }

    /// As it is kept and shown.
    pub fn answer(&self, host: &str) -> Answer {
        let status = self.status();
        let text = self.lines.join(" ");
        let text = text.strip_prefix(&status).unwrap_or(&text).trim().to_string();
        Answer { host: host.into(), code: self.code, status, text }.bounded()
    }
}

/// `5.1.1`: three numbers (RFC 3463, 2).
fn is_status(word: &str) -> bool {
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.parse::<u16>().is_ok();
    word.split('.').count() == 3 && word.split('.').all(is_number)
}

/// Cuts replies out of what a host sends.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    code: Option<u16>,
    lines: Vec<String>,
}

impl Reader {
    /// Takes what was received.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Forgets what was received and not asked for: after STARTTLS nothing counts that came in the clear.
    pub fn clear(&mut self) {
        *self = Reader::default();
    }

    /// The next whole reply, if there is one.
    ///
    /// # Errors
    /// Says what the host did wrong; nothing that follows can be trusted.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, &'static str> {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            if let Some(reply) = self.line(&line)? {
                return Ok(Some(reply));
            }
        }
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err("a reply line that does not end");
        }
        Ok(None)
    }

    /// A bare LF ends a line here as well: who sends one can only hurt its own reply.
    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, &'static str> {
        if line.len() > LINE_BYTES_MAX {
            return Err("a reply line that is too long");
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let code = line.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let code = code.and_then(|digits| digits.parse().ok()).filter(|c| (200..600).contains(c));
        let code: u16 = code.ok_or("a reply without a code")?;
        if self.code.is_some_and(|before| before != code) {
            return Err("a reply with two codes");
        }
        if self.lines.len() == LINES_MAX {
            return Err("a reply of too many lines");
        }
        let (mark, text) = line[3..].split_at_checked(1).unwrap_or((" ", ""));
        self.lines.push(text.to_string());
        match mark {
            " " => {
                self.code = None;
                Ok(Some(Reply { code, lines: std::mem::take(&mut self.lines) }))
            }
            "-" => {
                self.code = Some(code);
                Ok(None)
            }
            _ => Err("a reply without a code"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Option<Reply>, &'static str> {
        let mut reader = Reader::default();
        octets.iter().for_each(|b| reader.feed(&[*b]));
        reader.next_reply()
    }

    #[test]
    fn replies_of_one_and_several_lines_are_read() {
        let reply = read(b"250-a\r\n250-b\r\n250 c\r\n").unwrap().unwrap();
        assert_eq!((reply.code, reply.lines), (250, vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(read(b"250\r\n").unwrap().unwrap().lines, [""]);
        assert_eq!(read(b"250-a\r\n"), Ok(None));
        assert_eq!(read(b"220 x\n").unwrap().unwrap().code, 220);
    }

    #[test]
    fn what_is_no_reply_is_refused_and_nothing_fills_memory() {
        for bad in [
            &b"\r\n"[..],
            b"hello\r\n",
            b"25\r\n",
            b"250x\r\n",
            b"100 x\r\n",
            b"600 x\r\n",
            b"250-a\r\n550 b\r\n",
            b"\xff\xfe\xfd\xfc\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&[b'2'; LINE_BYTES_MAX + 1]).is_err());
        assert!(read(&b"250-x\r\n".repeat(LINES_MAX + 1)).is_err());
    }

    #[test]
    fn an_enhanced_code_counts_where_it_fits() {
        let answer = |line: &str| read(line.as_bytes()).unwrap().unwrap().answer("mx").to_string();
        assert_eq!(answer("550 5.1.1 no such user\r\n"), "mx: 550 5.1.1 no such user");
        assert_eq!(answer("550 2.0.0 no\r\n"), "mx: 550 5.0.0 2.0.0 no");
        assert_eq!(answer("451-a\r\n451 b\r\n"), "mx: 451 4.0.0 a b");
    }

    proptest::proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(0u8.., 0..300)) {
            let mut reader = Reader::default();
            reader.feed(&octets);
            while let Ok(Some(reply)) = reader.next_reply() {
                reply.answer("mx");
            }
        }
    }
}
