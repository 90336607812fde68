//! A message as it goes over the wire: CR LF alone ends lines, none is longer than 998 octets, dots are stuffed (pure).

/// Octets of a line without its end (RFC 5322, 2.1.1). A longer one is folded: CR LF and a blank.
pub const LINE_OCTETS_MAX: usize = 998;

/// Encodes a message piece by piece.
#[derive(Debug, Default)]
pub struct Stuffer {
    /// Octets of the line so far, without a stuffed dot.
    column: usize,
    /// Whether the last octet was a CR, which is written when what follows is known.
    cr: bool,
}

impl Stuffer {
    /// Encodes a piece and adds it to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            let text = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
            if text == 0 {
                self.newline(byte, out);
                rest = &rest[1..];
                continue;
            }
            self.text(&rest[..text], out);
            rest = &rest[text..];
        }
    }

    /// Ends the message: a last line without an end gets one, then comes the dot.
    pub fn end(mut self, out: &mut Vec<u8>) {
        if self.cr || self.column > 0 {
            self.break_line(out);
        }
        out.extend(b".\r\n");
    }

    /// CR LF is one end of a line; a CR or LF alone becomes one.
    fn newline(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'\r' if self.cr => self.break_line(out),
            b'\r' => {}
            _ => self.break_line(out),
        }
        self.cr = byte == b'\r';
    }

    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.cr {
            self.break_line(out);
        }
        let mut rest = text;
        while !rest.is_empty() {
            if self.column == LINE_OCTETS_MAX {
                self.break_line(out);
                out.push(b' ');
                self.column = 1;
            }
            if self.column == 0 && rest[0] == b'.' {
                out.push(b'.');
            }
            let now = rest.len().min(LINE_OCTETS_MAX - self.column);
            out.extend_from_slice(&rest[..now]);
            self.column += now;
            rest = &rest[now..];
        }
    }

    fn break_line(&mut self, out: &mut Vec<u8>) {
        out.extend(b"\r\n");
        (self.column, self.cr) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::data::{Decoded, Decoder};
    use proptest::prelude::*;

    fn stuff(pieces: &[&[u8]]) -> String {
        let (mut stuffer, mut out) = (Stuffer::default(), Vec::new());
        pieces.iter().for_each(|piece| stuffer.push(piece, &mut out));
        stuffer.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dots_are_stuffed_and_only_crlf_ends_lines() {
        assert_eq!(stuff(&[b"a\r\n.\r\n..b\r\n"]), "a\r\n..\r\n...b\r\n.\r\n");
        assert_eq!(stuff(&[b""]), ".\r\n");
        assert_eq!(stuff(&[b"a"]), "a\r\n.\r\n");
        assert_eq!(stuff(&[b"a\r", b"\n", b".", b"b\r\n"]), "a\r\n..b\r\n.\r\n");
    }

    #[test]
    fn nothing_in_a_message_can_end_it() {
        for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\r\n.\r\n", "\n\n.\r\n"] {
            let stuffed = stuff(&[format!("a{end}MAIL FROM:<x@y>").as_bytes()]);
            assert_eq!(stuffed.find("\r\n.\r\n"), Some(stuffed.len() - 5), "{end:?}");
        }
    }

    #[test]
    fn a_long_line_is_folded() {
        let stuffed = stuff(&[&[b'x'; 2000]]);
        assert!(stuffed.lines().all(|line| line.len() <= LINE_OCTETS_MAX));
        assert_eq!(stuffed.matches('x').count(), 2000);
        assert!(stuffed.contains("x\r\n x"));
        let just = [&[b'x'; 998][..], b"\r\n"].concat();
        assert_eq!(stuff(&[&just]).len(), 1003);
    }

    proptest! {
        #[test]
        fn our_own_server_gets_what_was_sent(
            lines in prop::collection::vec("[.a\0é]{0,5}", 0..20), cut in 1..9usize,
        ) {
            let message: Vec<u8> = lines.iter().flat_map(|l| format!("{l}\r\n").into_bytes()).collect();
            let stuffed = stuff(&message.chunks(cut).collect::<Vec<_>>());
            let mut out = Vec::new();
            let decoded = Decoder::default().decode(stuffed.as_bytes(), &mut out);
            prop_assert_eq!(decoded, Decoded::Ended(stuffed.len()));
            prop_assert_eq!(out, message);
        }
    }
}
