//! What the server has to know of a message's header, gathered while it passes.

/// Octets of a line that are looked at, and of a From field that are kept.
const LINE_BYTES_KEPT: usize = 4096;
const AUTHORS_BYTES_MAX: usize = 16 << 10;

/// A header, as far as it has passed.
#[derive(Debug, Default)]
pub struct Header {
    /// Whether the empty line after it has passed.
    pub is_over: bool,
    /// How many Received fields there are.
    pub received: usize,
    /// The value of each From field, its lines as they came.
    pub authors: Vec<Vec<u8>>,
    /// Whether something of a From field was too long to be kept.
    pub authors_cut: bool,
    /// Whether there is a Date.
    pub has_date: bool,
    /// Whether there is a Message-ID.
    pub has_message_id: bool,
    line: Vec<u8>,
    line_cut: bool,
    /// Whether the lines that go on are those of a From field.
    in_from: bool,
}

impl Header {
    /// Takes octets of the message in their order.
    pub(super) fn look_at(&mut self, mut bytes: &[u8]) {
        while !self.is_over && !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = LINE_BYTES_KEPT - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.line_cut |= part.len() > room;
            let Some(end) = end else { return };
            let line = std::mem::take(&mut self.line);
            self.end_line(line.strip_suffix(b"\r").unwrap_or(&line));
            self.authors_cut |= std::mem::take(&mut self.line_cut) && self.in_from;
            bytes = &bytes[end + 1..];
        }
    }

    fn end_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.is_over = true;
        } else if matches!(line[0], b' ' | b'\t') {
            self.go_on(line);
        } else {
            self.begin(line);
        }
    }

    fn begin(&mut self, line: &[u8]) {
        let colon = line.iter().position(|b| *b == b':');
        let (name, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        // RFC 5322, 4.5: old programs write blanks before the colon, and readers skip them.
        let name = name.trim_ascii_end().to_ascii_lowercase();
        self.in_from = colon.is_some() && name == b"from";
        match name.as_slice() {
            b"received" => self.received += 1,
            b"date" => self.has_date = true,
            b"message-id" => self.has_message_id = true,
            b"from" if self.in_from && self.authors.len() < 2 => self.authors.push(value.to_vec()),
            _ => {}
        }
    }

    fn go_on(&mut self, line: &[u8]) {
        let Some(authors) = self.authors.last_mut().filter(|_| self.in_from) else { return };
        if authors.len() + line.len() <= AUTHORS_BYTES_MAX {
            authors.extend_from_slice(b"\r\n");
            authors.extend_from_slice(line);
        } else {
            self.authors_cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HOPS_MAX;
    use super::*;

    fn of(text: &str) -> Header {
        let mut header = Header::default();
        text.as_bytes().chunks(3).for_each(|piece| header.look_at(piece));
        header
    }

    #[test]
    fn fields_are_counted_and_lines_of_the_body_are_not() {
        let header =
            of(&format!("{}\r\nReceived: body\r\n", "RECEIVED: x\r\n y\r\n".repeat(HOPS_MAX)));
        assert_eq!((header.received, header.is_over), (HOPS_MAX, true));
        let header = of("Subject: Date: x\r\nMessage-Id : y\r\n\r\nDate: z\r\n");
        assert!(header.has_message_id && !header.has_date);
        assert!(!of("Date: x\r\n").is_over);
    }

    #[test]
    fn the_authors_are_kept_with_the_lines_that_go_on() {
        let header = of("From: A\r\n <a@x.org>\r\nTo: b\r\n c\r\n\r\nFrom: d\r\n");
        assert_eq!(header.authors, [b" A\r\n <a@x.org>".to_vec()]);
        assert_eq!(of("from : a\r\nFROM:b\r\n").authors, [b" a".to_vec(), b"b".to_vec()]);
        assert_eq!(of("From\r\n\r\n").authors.len(), 0);
    }

    #[test]
    fn a_header_without_end_takes_no_memory() {
        let header = of(&format!("From: {}", "x".repeat(1 << 20)));
        assert!(header.line.len() <= LINE_BYTES_KEPT);
        let header = of(&format!("From: a@x.org{}\r\n\r\n", "\r\n ,b@x.org".repeat(10_000)));
        assert!(header.authors[0].len() <= AUTHORS_BYTES_MAX && header.authors_cut);
        let blanks = " ".repeat(LINE_BYTES_KEPT);
        assert!(of(&format!("From: a@x.org{blanks},b@x.org\r\n\r\n")).authors_cut);
        assert!(!of(&format!("To: a@x.org{blanks}\r\nFrom: a@x.org\r\n\r\n")).authors_cut);
    }
}
