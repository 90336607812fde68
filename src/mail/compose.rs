//! Writing messages: header and text by a library, attachments streamed after them.
//!
//! A message without attachments is its text alone; with the first attachment it becomes
//! `multipart/mixed`. Nothing is kept but the piece in hand, so attachments cost no memory.

use super::address::Contact;
use super::message::{bound_references, check_id, clean, file_name};
use crate::error::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as HeaderAddress;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::message_id::MessageId;
use mail_builder::mime::{BodyPart, MimePart, make_boundary};

/// Characters of a subject.
pub const SUBJECT_CHARS_MAX: usize = 500;
/// Bytes that make one line of base64 (RFC 2045, 6.8: 76 characters).
const LINE_BYTES: usize = 57;

/// What a message says, apart from its attachments. Blind recipients have no place here.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The author.
    pub from: Contact,
    /// Recipients.
    pub to: Vec<Contact>,
    /// Further recipients.
    pub cc: Vec<Contact>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// Names the message, without brackets: `guid@domain`.
    pub message_id: String,
    /// The message that this one answers.
    pub in_reply_to: Option<String>,
    /// The messages before it, oldest first.
    pub references: Vec<String>,
    /// When it was written, in seconds since 1970.
    pub date: i64,
}

impl Outline {
    fn build(&self) -> MessageBuilder<'_> {
        let mut message = MessageBuilder::new()
            .date(self.date)
            .message_id(self.message_id.as_str())
            .from(mailbox(&self.from))
            .subject(clean(&self.subject, SUBJECT_CHARS_MAX));
        for (name, people) in [("To", &self.to), ("Cc", &self.cc)] {
            if !people.is_empty() {
                let list = HeaderAddress::new_list(people.iter().map(mailbox).collect());
                message = message.header(name, list);
            }
        }
        if let Some(id) = self.in_reply_to.as_deref().and_then(check_id) {
            message = message.in_reply_to(id);
        }
        let references: Vec<String> =
            self.references.iter().filter_map(|id| check_id(id)).collect();
        if !references.is_empty() {
            let ids = bound_references(references);
            message = message.references(MessageId::new_list(ids.into_iter()));
        }
        message
    }

    fn text(&self) -> String {
        let mut text = self.text.replace("\r\n", "\n").replace('\r', "\n");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// The whole message, where nothing is attached.
    fn plain(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.build().text_body(self.text()).serialize(&mut bytes);
        bytes
    }

    /// The message as far as its text, where attachments follow.
    fn mixed(&self, boundary: &str) -> Vec<u8> {
        let mixed = ContentType::new("multipart/mixed").attribute("boundary", boundary.to_string());
        let text = MimePart::new("text/plain", self.text());
        let mut bytes = Vec::new();
        self.build().body(MimePart::new(mixed, vec![text])).serialize(&mut bytes);
        let end = end_line(boundary);
        debug_assert!(bytes.ends_with(end.as_bytes()), "the message ends with its boundary");
        bytes.truncate(bytes.len() - end.len());
        bytes
    }
}

fn mailbox(contact: &Contact) -> HeaderAddress<'_> {
    let name = (!contact.name.is_empty()).then_some(contact.name.as_str());
    HeaderAddress::new_address(name, contact.address.to_string())
}

fn end_line(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}

/// Where a message is written to.
pub trait Sink {
    /// Takes the next bytes.
    fn add(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Writes a message into a sink, piece by piece.
pub struct Composer<S> {
    outline: Outline,
    sink: S,
    /// There is one as soon as something was attached.
    boundary: Option<String>,
    /// Bytes of the current attachment that do not fill a line yet.
    line: Vec<u8>,
}

impl<S: Sink> Composer<S> {
    /// Begins a message. Nothing is written yet.
    pub fn new(outline: Outline, sink: S) -> Composer<S> {
        Composer { outline, sink, boundary: None, line: Vec::new() }
    }

    /// Begins an attachment; [`Composer::add`] gives its bytes. A type that is none becomes
    /// `application/octet-stream`.
    pub fn attach(&mut self, name: &str, content_type: &str) -> Result<()> {
        self.end_attachment()?;
        let boundary = match &self.boundary {
            Some(boundary) => boundary.clone(),
            None => self.begin_mixed()?,
        };
        let name = match file_name(name) {
            name if name.is_empty() => "attachment".to_string(),
            name => name,
        };
        let part = MimePart::new(checked_type(content_type), BodyPart::Binary((&[][..]).into()))
            .attachment(name)
            .transfer_encoding("base64");
        let mut bytes = format!("\r\n--{boundary}\r\n").into_bytes();
        part.write_part(&mut bytes);
        self.sink.add(&bytes)
    }

    fn begin_mixed(&mut self) -> Result<String> {
        let boundary = make_boundary("_");
        self.sink.add(&self.outline.mixed(&boundary))?;
        self.boundary = Some(boundary.clone());
        Ok(boundary)
    }

    /// Adds bytes to the attachment that was begun last.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.line.extend_from_slice(bytes);
        let whole = self.line.len() - self.line.len() % LINE_BYTES;
        let encoded = base64_lines(&self.line[..whole]);
        self.line.drain(..whole);
        self.sink.add(&encoded)
    }

    fn end_attachment(&mut self) -> Result<()> {
        let encoded = base64_lines(&std::mem::take(&mut self.line));
        self.sink.add(&encoded)
    }

    /// Ends the message and gives the sink back.
    pub fn finish(mut self) -> Result<S> {
        self.end_attachment()?;
        let end = match &self.boundary {
            Some(boundary) => end_line(boundary).into_bytes(),
            None => self.outline.plain(),
        };
        self.sink.add(&end)?;
        Ok(self.sink)
    }
}

fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() / LINE_BYTES * 78 + 78);
    for line in bytes.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut text);
        text.push_str("\r\n");
    }
    text.into_bytes()
}

/// A `type/subtype` of tokens (RFC 2045, 5.1). What has parts of its own is sent as mere bytes: base64 is
/// not allowed for it (RFC 2045, 6.4).
fn checked_type(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |token: &str| {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !token.is_empty() && token.len() <= 127 && token.bytes().all(fine)
    };
    match essence.split_once('/') {
        Some((main, sub)) if is_token(main) && is_token(sub) => match main {
            "multipart" | "message" => "application/octet-stream".into(),
            _ => essence,
        },
        _ => "application/octet-stream".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::{Address, parse_list};
    use crate::mail::message::Letter;

    impl Sink for Vec<u8> {
        fn add(&mut self, bytes: &[u8]) -> Result<()> {
            self.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn outline(subject: &str, text: &str) -> Outline {
        Outline {
            from: Contact::new("Ali\r\nBcc: x@y", Address::parse("alice@penn.test").unwrap()),
            to: parse_list("\"Böb, B\" <bob@penn.test>, c@x.org").unwrap(),
            cc: Vec::new(),
            subject: subject.into(),
            text: text.into(),
            message_id: "g1@penn.test".into(),
            in_reply_to: Some("m0@x.org".into()),
            references: vec!["m0@x.org".into(), "evil\r\nBcc: y@z".into()],
            date: 1_762_174_920,
        }
    }

    fn compose(outline: Outline, files: &[(&str, &str, &[u8])]) -> Vec<u8> {
        let mut composer = Composer::new(outline, Vec::new());
        for (name, kind, contents) in files {
            composer.attach(name, kind).unwrap();
            contents.chunks(100).for_each(|piece| composer.add(piece).unwrap());
        }
        composer.finish().unwrap()
    }

    fn header_names(message: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(message);
        let head = text.split("\r\n\r\n").next().unwrap();
        let is_field = |line: &&str| !line.starts_with([' ', '\t']);
        head.split("\r\n").filter(is_field).map(|l| l.split(':').next().unwrap().into()).collect()
    }

    #[test]
    fn what_is_composed_is_read_again() {
        let bytes = compose(outline("Grüße", "Hello\r\n.\r\n\r\nFrom me: ü"), &[]);
        let letter = Letter::parse(&bytes).unwrap();
        assert_eq!(letter.subject(), "Grüße");
        assert_eq!(letter.text().0.trim_end(), "Hello\n.\n\nFrom me: ü");
        assert_eq!(letter.to()[0].name, "Böb, B");
        assert_eq!(letter.to()[1].address, "c@x.org");
        assert_eq!(letter.message_id().as_deref(), Some("g1@penn.test"));
        assert_eq!(letter.in_reply_to(), ["m0@x.org"]);
        assert_eq!(letter.references(), ["m0@x.org"]);
        assert_eq!(letter.date(), Some(1_762_174_920));
        assert!(letter.attachments().is_empty());
    }

    #[test]
    fn attachments_come_back_byte_for_byte() {
        let all: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
        let files: [(&str, &str, &[u8]); 4] = [
            ("Zeugnis \"ü\" 1.bin", "application/octet-stream", &all),
            ("empty.txt", "text/plain", b""),
            ("a.eml", "message/rfc822", b"Subject: x\r\n\r\ny"),
            ("", "te\r\nxt/html", b"<b>"),
        ];
        let bytes = compose(outline("files", "see below"), &files);
        let letter = Letter::parse(&bytes).unwrap();
        assert_eq!(letter.text().0.trim_end(), "see below");
        assert_eq!(letter.attachments().len(), 4);
        for (at, (_, _, contents)) in files.iter().enumerate() {
            assert_eq!(letter.attachment(at).unwrap().1, *contents, "{at}");
        }
        let found = letter.attachments();
        assert_eq!(found[0].name, "Zeugnis \"ü\" 1.bin");
        assert_eq!(found[1].content_type, "text/plain");
        assert_eq!(found[3].name, "attachment");
        assert_eq!(found[3].content_type, "application/octet-stream");
    }

    #[test]
    fn nothing_typed_becomes_a_header() {
        let evil = "x\r\nBcc: victim@x.org\r\n\r\nbody";
        let mut outline = outline(evil, evil);
        outline.to.push(Contact::new(evil, Address::parse("d@x.org").unwrap()));
        let bytes = compose(outline, &[(evil, evil, b"1")]);
        let names = header_names(&bytes);
        let known = [
            "Date",
            "Message-ID",
            "From",
            "Subject",
            "To",
            "In-Reply-To",
            "References",
            "MIME-Version",
            "Content-Type",
        ];
        assert_eq!(names, known, "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn lines_end_with_crlf_and_stay_short() {
        let bytes = compose(outline("s", &"ü x ".repeat(5000)), &[("f", "a/b", &[7; 5000])]);
        let text = String::from_utf8(bytes).expect("composed messages are ASCII");
        assert!(text.is_ascii());
        for line in text.split("\r\n") {
            assert!(!line.contains(['\r', '\n']) && line.len() <= 998, "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_subject_name_and_text_come_back(subject in "\\PC{0,80}", name in "\\PC{1,40}", text in "(\\PC|\n){0,400}") {
            let bytes = compose(outline(&subject, &text), &[(&name, "a/b", b"x")]);
            let letter = Letter::parse(&bytes).unwrap();
            proptest::prop_assert_eq!(letter.subject(), clean(&subject, SUBJECT_CHARS_MAX));
            proptest::prop_assert_eq!(letter.attachment(0).unwrap().1, b"x");
            proptest::prop_assert_eq!(letter.attachments().len(), 1);
            let names = header_names(&bytes);
            proptest::prop_assert!(!names.iter().any(|name| name.eq_ignore_ascii_case("bcc")));
        }
    }
}
