//! The message after DATA, as it comes in pieces of any size.

use super::HOPS_MAX;

/// Beginning of a header line that is looked at.
const FIELD_BYTES: usize = 9;

/// Finds the end of a message and takes its dots away (RFC 5321, 4.5.2).
#[derive(Debug, Default)]
pub struct Decoder {
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
}

impl Decoder {
    /// Decodes a piece; octets of the message are added to `out`.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Decoded {
        let from = out.len();
        let decoded = self.decode_into(input, out);
        self.header.look_at(&out[from..]);
        self.bytes += (out.len() - from) as u64;
        decoded
    }

    /// Octets of the message so far, without stuffed dots (RFC 1870, 5).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the header is one to be refused.
    pub fn fault(&self) -> Option<Fault> {
        match &self.header {
            header if header.received >= HOPS_MAX => Some(Fault::Loop),
            header if header.from > 1 => Some(Fault::Senders),
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
                (State::LineStart, b'.') => State::Dot,
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

/// Counts header fields while they pass.
#[derive(Debug, Default)]
struct Header {
    line: Vec<u8>,
    at_end: bool,
    received: usize,
    from: usize,
}

impl Header {
    fn look_at(&mut self, mut bytes: &[u8]) {
        while !self.at_end && !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = FIELD_BYTES - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let Some(end) = end else { return };
            self.end_line();
            bytes = &bytes[end + 1..];
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line).to_ascii_lowercase();
        self.at_end = line.is_empty() || line == b"\r";
        self.received += usize::from(line.starts_with(b"received:"));
        self.from += usize::from(line.starts_with(b"from:"));
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
    fn header_fields_are_counted_and_lines_of_the_body_are_not() {
        let mut decoder = Decoder::default();
        let text =
            format!("{}\r\nReceived: body\r\n", "RECEIVED: x\r\n y\r\n".repeat(HOPS_MAX - 1));
        decoder.decode(text.as_bytes(), &mut Vec::new());
        assert_eq!(decoder.fault(), None);
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
