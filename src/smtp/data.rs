//! The octets of a message, as they come in pieces of any size.

use super::HOPS_MAX;
use super::header::Header;

/// Finds the end of a message and takes its dots away (RFC 5321, 4.5.2); or takes it as it is, where BDAT says how long
/// it is (RFC 3030, 2).
#[derive(Debug, Default)]
pub struct Decoder {
    /// Whether lengths are said, and no dots stuffed.
    chunked: bool,
    state: State,
    header: Header,
    bytes: u64,
}

/// What the octets so far were the end of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// CR LF, or nothing at all.
    #[default]
    LineStart,
    /// A dot at the start of a line.
    Dot,
    /// A dot at the start of a line, and CR.
    DotCr,
    /// Something of a line.
    Text,
    /// Something of a line, and CR.
    Cr,
}

/// What a piece of input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All of it belongs to the message; more follows.
    More,
    /// The message has ended; so many octets of the piece belonged to it.
    Ended(usize),
    /// A CR or LF stands alone. Where the message ends cannot be said for sure: programs that take it
    /// for a line's end would see other commands than we do.
    BareNewline,
}

/// Why a message is refused for what stands in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It came through too many hosts: a loop.
    Loop,
    /// It has several From fields.
    Senders,
    /// Its header is too long to be looked at.
    TooLong,
    /// It is a submitter's, and its From field does not name that user, or nobody else than that user.
    Author,
}

impl Decoder {
    /// One for a message that comes by BDAT.
    pub fn chunked() -> Decoder {
        Decoder { chunked: true, ..Decoder::default() }
    }

    /// Decodes a piece; octets of the message are added to `out`.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Decoded {
        let from = out.len();
        let decoded = self.decode_into(input, out);
        self.header.look_at(&out[from..]);
        self.bytes += (out.len() - from) as u64;
        decoded
    }

    /// Ends a message that came by BDAT: its last line gets an end if it has none. One that came by DATA has ended by
    /// itself.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Decoded {
        match self.state {
            _ if !self.chunked => Decoded::Ended(0),
            State::Cr => Decoded::BareNewline,
            State::LineStart => Decoded::Ended(0),
            _ => {
                self.decode(b"\r\n", out);
                Decoded::Ended(0)
            }
        }
    }

    /// What is known of the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Octets of the message so far, without stuffed dots (RFC 1870, 5).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the header is one to be refused.
    pub fn fault(&self) -> Option<Fault> {
        match &self.header {
            header if header.received >= HOPS_MAX => Some(Fault::Loop),
            header if header.authors.len() > 1 => Some(Fault::Senders),
            _ => None,
        }
    }

    fn decode_into(&mut self, input: &[u8], out: &mut Vec<u8>) -> Decoded {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            self.state = match (self.state, byte) {
                (State::Cr, b'\n') => {
                    out.extend(b"\r\n");
                    State::LineStart
                }
                (State::DotCr, b'\n') => return Decoded::Ended(at + 1),
                (State::Cr | State::DotCr, _) | (_, b'\n') => return Decoded::BareNewline,
                (State::Dot, b'\r') => State::DotCr,
                (_, b'\r') => State::Cr,
                (State::LineStart, b'.') if !self.chunked => State::Dot,
                _ => {
                    let text = &input[at..];
                    let end = text.iter().position(|b| matches!(b, b'\r' | b'\n'));
                    let text = &text[..end.unwrap_or(text.len())];
                    out.extend_from_slice(text);
                    at += text.len() - 1;
                    State::Text
                }
            };
            at += 1;
        }
        Decoded::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(input: &[u8]) -> (Decoded, Vec<u8>) {
        let mut out = Vec::new();
        (Decoder::default().decode(input, &mut out), out)
    }

    fn stuff(message: &[u8]) -> Vec<u8> {
        let mut stuffed = Vec::new();
        for line in message.split_inclusive(|b| *b == b'\n') {
            stuffed.extend(line.starts_with(b".").then_some(b'.'));
            stuffed.extend(line);
        }
        stuffed.extend(b".\r\n");
        stuffed
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        assert_eq!(decode(b"a\r\n.\r\nQUIT\r\n"), (Decoded::Ended(6), b"a\r\n".to_vec()));
        assert_eq!(decode(b".\r\n"), (Decoded::Ended(3), b"".to_vec()));
        assert_eq!(decode(b"a\r\n..\r\n.x\r\n"), (Decoded::More, b"a\r\n.\r\nx\r\n".to_vec()));
    }

    #[test]
    fn every_way_to_smuggle_a_message_is_found() {
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r.\r\n",
            "\r\n.\n",
            "\r\n.\r",
            "\r\n.\r.\r\n",
            "\r\n\r.\r\n",
            "\n\n.\r\n",
            "\r\r\n.\r\n",
            "\0\r.\r\n",
        ] {
            let input = format!("a{end}MAIL FROM:<x@y>\r\n.\r\n");
            assert_eq!(decode(input.as_bytes()).0, Decoded::BareNewline, "{end:?}");
        }
    }

    #[test]
    fn in_chunks_a_dot_is_a_dot_and_the_last_line_gets_its_end() {
        let (mut decoder, mut out) = (Decoder::chunked(), Vec::new());
        assert_eq!(decoder.decode(b"a\r\n.\r\n..", &mut out), Decoded::More);
        assert_eq!(decoder.end(&mut out), Decoded::Ended(0));
        assert_eq!((out.as_slice(), decoder.bytes()), (b"a\r\n.\r\n..\r\n".as_slice(), 10));
        let mut decoder = Decoder::chunked();
        assert_eq!(decoder.decode(b"a\nb", &mut Vec::new()), Decoded::BareNewline);
        let mut decoder = Decoder::chunked();
        assert_eq!(decoder.decode(b"a\r", &mut Vec::new()), Decoded::More);
        assert_eq!(decoder.end(&mut Vec::new()), Decoded::BareNewline);
    }

    #[test]
    fn a_loop_and_two_authors_are_found() {
        let mut decoder = Decoder::default();
        decoder.decode("Received:\r\n".repeat(HOPS_MAX).as_bytes(), &mut Vec::new());
        assert_eq!(decoder.fault(), Some(Fault::Loop));
        let mut decoder = Decoder::default();
        decoder.decode(b"From: a\r\nSubject: x\r\nfrom: b\r\n\r\n", &mut Vec::new());
        assert_eq!(decoder.fault(), Some(Fault::Senders));
    }

    proptest! {
        #[test]
        fn what_was_stuffed_comes_out_however_it_is_cut(
            lines in prop::collection::vec("[.a\0é]{0,5}", 0..20),
            cuts in prop::collection::vec(1..9usize, 1..50),
        ) {
            let message: Vec<u8> = lines.iter().flat_map(|l| format!("{l}\r\n").into_bytes()).collect();
            let wire = stuff(&message);
            let (mut decoder, mut out, mut rest) = (Decoder::default(), Vec::new(), wire.as_slice());
            let mut last = Decoded::More;
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                prop_assert_eq!(last, Decoded::More);
                last = decoder.decode(now, &mut out);
                if let Decoded::Ended(n) = last { prop_assert_eq!(n, now.len()) }
                rest = later;
            }
            prop_assert!(matches!(last, Decoded::Ended(_)));
            prop_assert_eq!(decoder.bytes(), message.len() as u64);
            prop_assert_eq!(out, message);
        }
    }
}
