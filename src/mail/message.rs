//! Reading messages: what a list shows of one, what a page shows of one, and the trace lines above it.
//!
//! Messages come from anywhere: whatever is shown went through [`clean`], and every text has a limit.

use super::address::Address;
use super::html::picture_type;
use super::nesting::is_bounded;
use crate::error::{Error, Result};
use mail_parser::{
    Address as Addresses, DateTime, HeaderName, HeaderValue, Message, MessageParser, MessagePart,
    MimeHeaders,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// How much of a message's beginning is read for its [`Summary`].
pub const HEAD_BYTES_MAX: usize = 256 << 10;
/// Bytes of text that a page shows; what is longer can be downloaded.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Attachments that a page lists.
pub const ATTACHMENTS_MAX: usize = 200;
/// Addresses of one header field that a page lists.
pub const PEOPLE_MAX: usize = 200;
/// Message-IDs that References keeps: the first and the newest (RFC 5322, 3.6.4 sets no limit).
pub const REFERENCES_MAX: usize = 30;
/// Octets of one Message-ID.
const ID_BYTES_MAX: usize = 250;
const SUBJECT_CHARS_MAX: usize = 200;
const NAME_CHARS_MAX: usize = 100;
const SNIPPET_CHARS_MAX: usize = 120;
const FILE_NAME_CHARS_MAX: usize = 150;
/// Characters of a file name's extension, with its dot, that is kept when the name is cut.
const EXTENSION_CHARS_MAX: usize = 16;

/// What a list shows of a message. Part of its entry; a few hundred bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Name of the author, or the address where there is none.
    pub from: String,
    /// Names of the recipients.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// How its text begins.
    pub snippet: String,
    /// The date that the author gave, in seconds since 1970; 0: none.
    pub date: i64,
    /// [`id_hash`] of the Message-ID; empty: none.
    pub mid: String,
    /// Whether files are attached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attachments: bool,
}

impl Summary {
    /// Reads the beginning of a message, at most [`HEAD_BYTES_MAX`] of it.
    pub fn of(head: &[u8]) -> Summary {
        let head = &head[..head.len().min(HEAD_BYTES_MAX)];
        let Some((message, _)) = parse(head) else {
            return Summary { snippet: snippet(&String::from_utf8_lossy(head)), ..Self::default() };
        };
        Summary {
            from: match names(message.from()) {
                name if name.is_empty() => envelope_sender(&message).unwrap_or_default(),
                name => name,
            },
            to: names(message.to().or(message.cc())),
            subject: clean(message.subject().unwrap_or_default(), SUBJECT_CHARS_MAX),
            snippet: snippet(&text_of(&message)),
            date: message.date().map_or(0, DateTime::to_timestamp),
            mid: message_id(&message).map_or_else(String::new, |id| id_hash(&id)),
            attachments: message.attachment_count() > 0,
        }
    }
}

/// A message with its parts, and true; or with its head alone, where taking the parts apart has no bound.
fn parse(bytes: &[u8]) -> Option<(Message<'_>, bool)> {
    let (parser, bounded) = (MessageParser::default(), is_bounded(bytes));
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let message = if bounded { parser.parse(bytes) } else { parser.parse_headers(head) };
    Some((message?, bounded))
}

/// A short hash by which a Message-ID is found in entries.
pub fn id_hash(message_id: &str) -> String {
    Sha256::digest(message_id).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The Message-ID in a message's head, without its brackets.
pub fn message_id_of(head: &[u8]) -> Option<String> {
    let head = &head[..head.len().min(HEAD_BYTES_MAX)];
    MessageParser::default().parse_headers(head).as_ref().and_then(message_id)
}

/// Somebody in a header field. The address is what the message says: it may not be one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Display name; may be empty.
    pub name: String,
    /// The address.
    pub address: String,
}

impl Person {
    /// The name, or the address where there is none.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { &self.address } else { &self.name }
    }
}

/// A file that came with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, without control characters and slashes.
    pub name: String,
    /// Its type as the message says, `type/subtype`.
    pub content_type: String,
    /// Its bytes after decoding.
    pub size: usize,
}

/// A message that was parsed for reading.
pub struct Letter<'a> {
    message: Message<'a>,
    /// Its parts are left as they came ([`super::nesting`]).
    raw: Option<&'a [u8]>,
}

impl<'a> Letter<'a> {
    /// Parses a message. One that has no header at all is `Corrupt`: it can still be shown raw.
    pub fn parse(bytes: &'a [u8]) -> Result<Letter<'a>> {
        let parsed = parse(bytes).ok_or_else(|| Error::corrupt("this message has no header"));
        parsed.map(|(message, bounded)| Letter { message, raw: (!bounded).then_some(bytes) })
    }

    /// The subject.
    pub fn subject(&self) -> String {
        clean(self.message.subject().unwrap_or_default(), 4 * SUBJECT_CHARS_MAX)
    }

    /// The author's date, in seconds since 1970.
    pub fn date(&self) -> Option<i64> {
        self.message.date().filter(|date| date.is_valid()).map(DateTime::to_timestamp)
    }

    /// Who wrote it: more than one author is shown, never hidden. Where the message names none, it is who
    /// sent it.
    pub fn from(&self) -> Vec<Person> {
        let authors = self.people(HeaderName::From);
        if !authors.is_empty() {
            return authors;
        }
        let sender = envelope_sender(&self.message);
        sender.map(|address| Person { name: String::new(), address }).into_iter().collect()
    }

    /// Everybody in the To fields.
    pub fn to(&self) -> Vec<Person> {
        self.people(HeaderName::To)
    }

    /// Everybody in the Cc fields.
    pub fn cc(&self) -> Vec<Person> {
        self.people(HeaderName::Cc)
    }

    /// To whom an answer goes: Reply-To, else From.
    pub fn reply_to(&self) -> Vec<Person> {
        let asked = self.people(HeaderName::ReplyTo);
        if asked.is_empty() { self.from() } else { asked }
    }

    fn people(&self, header: HeaderName<'static>) -> Vec<Person> {
        self.message
            .header_values(header)
            .filter_map(HeaderValue::as_address)
            .flat_map(people)
            .take(PEOPLE_MAX)
            .collect()
    }

    /// The Message-ID without its brackets.
    pub fn message_id(&self) -> Option<String> {
        message_id(&self.message)
    }

    /// The Message-IDs of In-Reply-To.
    pub fn in_reply_to(&self) -> Vec<String> {
        ids(self.message.in_reply_to())
    }

    /// The Message-IDs of References, oldest first.
    pub fn references(&self) -> Vec<String> {
        ids(self.message.references())
    }

    /// What an answer's References say (RFC 5322, 3.6.4).
    pub fn thread(&self) -> Vec<String> {
        let mut thread = self.references();
        if thread.is_empty() {
            thread = self.in_reply_to().into_iter().take(1).collect();
        }
        thread.extend(self.message_id());
        bound_references(thread)
    }

    /// The text to read: the plain one, else that of the HTML; and whether it was cut. Where the parts
    /// could not be taken apart, all of the message as it came.
    pub fn text(&self) -> (String, bool) {
        let mut text = match self.raw {
            None => text_of(&self.message),
            Some(raw) => readable(&String::from_utf8_lossy(&raw[..raw.len().min(TEXT_BYTES_MAX)])),
        };
        let cut = self.raw.is_some() || text.len() > TEXT_BYTES_MAX;
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        (text, cut)
    }

    /// The HTML to read, where its author wrote some.
    pub fn html(&self) -> Option<String> {
        let parts = self.message.html_bodies().filter(|part| part.is_text_html());
        let bodies: Vec<&str> = parts.filter_map(MessagePart::text_contents).collect();
        (!bodies.is_empty() && self.raw.is_none()).then(|| bodies.join("\n<hr>\n"))
    }

    /// Which attachments are pictures with a Content-ID, by which HTML shows them (RFC 2392).
    pub fn pictures(&self) -> HashMap<String, usize> {
        let parts = self.message.attachments().take(ATTACHMENTS_MAX).enumerate();
        let pictures = parts.filter(|(_, part)| picture_type(&content_type(part)).is_some());
        let named = pictures.filter_map(|(index, part)| Some((part.content_id()?, index)));
        named.map(|(id, index)| (id.trim_matches(['<', '>']).to_string(), index)).collect()
    }

    /// What is attached, in order.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.message.attachments().take(ATTACHMENTS_MAX).enumerate().map(attachment).collect()
    }

    /// Name, type and decoded bytes of an attachment.
    pub fn attachment(&self, index: usize) -> Option<(Attachment, &[u8])> {
        let part = self.message.attachments().take(ATTACHMENTS_MAX).nth(index)?;
        Some((attachment((index, part)), part.contents()))
    }
}

fn attachment((index, part): (usize, &MessagePart<'_>)) -> Attachment {
    let name = part.attachment_name().map(file_name).unwrap_or_default();
    let name = if name.is_empty() { nameless(index, part) } else { name };
    Attachment { name, content_type: content_type(part), size: part.contents().len() }
}

fn content_type(part: &MessagePart<'_>) -> String {
    let content_type = part.content_type().map_or_else(
        || "application/octet-stream".to_string(),
        |t| format!("{}/{}", t.ctype(), t.subtype().unwrap_or("octet-stream")),
    );
    clean(&content_type, 100)
}

fn nameless(index: usize, part: &MessagePart<'_>) -> String {
    let nested = part.message().and_then(|message| message.subject());
    match nested.filter(|subject| !subject.is_empty()) {
        Some(subject) => file_name_of_subject(subject),
        None if part.is_message() => format!("message-{}.eml", index + 1),
        None => format!("attachment-{}", index + 1),
    }
}

/// A file name that cannot leave its folder, break a header or turn around on the screen. One that is too
/// long keeps its extension.
pub fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = clean(last, usize::MAX);
    if name.chars().all(|c| c == '.') { String::new() } else { shorten(&name) }
}

fn shorten(name: &str) -> String {
    let extension = match name.rfind('.') {
        Some(at) if name[at..].chars().count() <= EXTENSION_CHARS_MAX => &name[at..],
        _ => "",
    };
    let stem = &name[..name.len() - extension.len()];
    let room = FILE_NAME_CHARS_MAX - extension.chars().count();
    stem.chars().take(room).chain(extension.chars()).collect()
}

/// The file name of a whole message: slashes of its subject cut nothing off.
pub fn file_name_of_subject(subject: &str) -> String {
    let name = clean(&subject.replace(['/', '\\'], "_"), FILE_NAME_CHARS_MAX - 4);
    let name = if name.is_empty() { "message" } else { &name };
    format!("{name}.eml")
}

/// One line of at most so many characters: control characters and invisible ones that change the
/// direction of text become blanks, blanks are squeezed.
pub fn clean(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(is_blank).filter(|word| !word.is_empty()) {
        for c in (count > 0).then_some(' ').into_iter().chain(word.chars()) {
            if count == chars_max {
                return line;
            }
            line.push(c);
            count += 1;
        }
    }
    line
}

fn is_blank(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_whitespace() || c.is_control() || turns || matches!(c, '\u{200b}' | '\u{feff}')
}

/// How a text begins, without what it quotes.
fn snippet(text: &str) -> String {
    let own = text.lines().filter(|line| !line.starts_with('>')).take(40);
    clean(&own.collect::<Vec<_>>().join(" "), SNIPPET_CHARS_MAX)
}

fn text_of(message: &Message<'_>) -> String {
    let bodies = (0..message.text_body_count()).filter_map(|at| message.body_text(at));
    let text = bodies.map(|text| text.trim_end().to_string()).collect::<Vec<_>>().join("\n\n");
    readable(&text)
}

/// A text without carriage returns and control characters.
fn readable(text: &str) -> String {
    let fine = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.replace("\r\n", "\n").chars().filter(|&c| fine(c)).collect()
}

fn people<'x>(addresses: &'x Addresses<'x>) -> impl Iterator<Item = Person> + 'x {
    addresses.iter().map(|one| Person {
        name: clean(one.name().unwrap_or_default(), NAME_CHARS_MAX),
        address: clean(one.address().unwrap_or_default(), 320),
    })
}

/// The names of a field, separated by commas.
fn names(addresses: Option<&Addresses<'_>>) -> String {
    let labels = addresses.into_iter().flat_map(people).take(PEOPLE_MAX);
    let labels: Vec<String> = labels.map(|person| person.label().to_string()).collect();
    clean(&labels.join(", "), NAME_CHARS_MAX)
}

/// The address in the first Return-Path, which is ours; none where it is the null path.
fn envelope_sender(message: &Message<'_>) -> Option<String> {
    let first = message.header_values(HeaderName::ReturnPath).next()?;
    Some(clean(first.as_text()?, 320)).filter(|address| !address.is_empty())
}

fn message_id(message: &Message<'_>) -> Option<String> {
    message.message_id().and_then(check_id)
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    let all = match value {
        HeaderValue::Text(one) => std::slice::from_ref(one),
        other => other.as_text_list().unwrap_or_default(),
    };
    bound_references(all.iter().filter_map(|id| check_id(id)).collect())
}

/// A Message-ID that may be written into a header again: one line, no blanks, no brackets.
pub fn check_id(id: &str) -> Option<String> {
    let id = id.trim().trim_start_matches('<').trim_end_matches('>');
    let fine = |c: char| ('!'..='~').contains(&c) && c != '<' && c != '>';
    (!id.is_empty() && id.len() <= ID_BYTES_MAX && id.chars().all(fine)).then(|| id.to_string())
}

/// Keeps the first and the newest of too many references.
pub fn bound_references(mut ids: Vec<String>) -> Vec<String> {
    if ids.len() > REFERENCES_MAX {
        ids.drain(1..=ids.len() - REFERENCES_MAX);
    }
    ids
}

/// The line that final delivery puts first (RFC 5321, 4.4); without a sender, the null path.
pub fn return_path(sender: Option<&Address>) -> String {
    match sender {
        Some(sender) => format!("Return-Path: <{sender}>\r\n"),
        None => "Return-Path: <>\r\n".into(),
    }
}

/// What a Received line says (RFC 5321, 4.4).
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// From whom: what the peer says of itself, and its address.
    pub from: &'a str,
    /// By whom: our name.
    pub by: &'a str,
    /// With which protocol (RFC 3848).
    pub with: &'a str,
    /// Under which id.
    pub id: &'a str,
    /// For whom. Only where there is one recipient: nobody is to learn of others.
    pub to: Option<&'a Address>,
    /// When, in seconds since 1970.
    pub seconds: u64,
}

/// The line. What a peer said of itself loses everything that could end the line or its comment.
impl std::fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
        let from: String = self.from.chars().map(plain).take(400).collect();
        let Received { by, with, id, .. } = self;
        write!(f, "Received: from {from}\r\n by {by} (PennCloud) with {with} id {id}")?;
        if let Some(to) = self.to {
            write!(f, "\r\n for <{to}>")?;
        }
        write!(f, ";\r\n {}\r\n", date(self.seconds))
    }
}

/// The line of a message that was not received from a peer: one of our own programs had it before.
pub fn received(from: &str, by: &str, with: &str, id: &str, seconds: u64) -> String {
    Received { from, by, with, id, to: None, seconds }.to_string()
}

/// A moment, as a Date field shows it.
pub fn date(seconds: u64) -> String {
    DateTime::from_timestamp(seconds as i64).to_rfc822()
}

/// The addresses in the value of a From field; `None` where something in it is none, or where another reader may find one
/// more.
pub fn authors(from: &[u8]) -> Option<Vec<Address>> {
    let field = [b"From: ", from, b"\r\n\r\n"].concat();
    let (message, _) = parse(&field)?;
    let mut authors = Vec::new();
    for value in message.header_values(HeaderName::From) {
        for one in value.as_address()?.iter() {
            authors.push(Address::parse_utf8(one.address()?).ok()?);
        }
    }
    (bare_at_signs(from) == authors.len()).then_some(authors)
}

/// How many `@` stand outside of quotes and comments.
fn bare_at_signs(field: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped, mut depth) = (0, false, false, 0_usize);
    for byte in field {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted || depth > 0 => escaped = true,
            b'"' if depth == 0 => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth = depth.saturating_sub(1),
            b'@' if !quoted && depth == 0 => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_all_that_a_field_names() {
        let read = |from: &str| {
            let authors = authors(from.as_bytes())?;
            Some(authors.iter().map(Address::to_string).collect::<Vec<_>>().join(" "))
        };
        for (from, all) in [
            ("alice@penn.test", "alice@penn.test"),
            ("\"boss@x.org\" <alice@penn.test>", "alice@penn.test"),
            ("Alice <alice@penn.test>, Boss <boss@x.org>", "alice@penn.test boss@x.org"),
            ("We: a@x.org, b@x.org;", "a@x.org b@x.org"),
            ("\"a\\\"@b\" (at @ home) <a@x.org>", "a@x.org"),
            ("=?utf-8?q?J=C3=BCrg?=\r\n <j@x.org>", "j@x.org"),
        ] {
            assert_eq!(read(from).as_deref(), Some(all), "{from}");
        }
        for from in [
            "",
            "alice",
            "<>",
            "alice@penn.test, boss",
            "a@b@c",
            "<boss@x.org> <a@x.org>",
            "<a@x.org> boss@x.org",
            "boss@x.org <a@x.org>",
        ] {
            assert!(read(from).is_none_or(|all| all.is_empty()), "{from}: {:?}", read(from));
        }
    }

    #[test]
    fn a_message_nested_without_end_is_read_by_its_head() {
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(HEAD_BYTES_MAX / 33);
        let mail = format!("From: eve@x.org\r\nSubject: dolls\r\n{nested}");
        let read = move || {
            let summary = Summary::of(mail.as_bytes());
            assert_eq!((summary.from.as_str(), summary.subject.as_str()), ("eve@x.org", "dolls"));
            let letter = Letter::parse(mail.as_bytes()).unwrap();
            let (text, cut) = letter.text();
            assert!(cut && text.starts_with("From: eve@x.org\nSubject: dolls\n"));
            assert_eq!(letter.attachments(), []);
        };
        let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(read).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_message_without_an_author_shows_who_sent_it() {
        let mail =
            "Return-Path: <eve@x.org>\r\nReturn-Path: <bob@y.org>\r\nSubject: x\r\n\r\ny\r\n";
        assert_eq!(Summary::of(mail.as_bytes()).from, "eve@x.org");
        assert_eq!(Letter::parse(mail.as_bytes()).unwrap().from()[0].label(), "eve@x.org");
        let bounce = mail.replace("eve@x.org", "");
        assert_eq!(Summary::of(bounce.as_bytes()).from, "");
        assert_eq!(Letter::parse(bounce.as_bytes()).unwrap().from(), []);
        let signed = mail.replace("Subject", "From: al@z.org\r\nSubject");
        assert_eq!(Summary::of(signed.as_bytes()).from, "al@z.org");
    }

    #[test]
    fn the_name_of_a_message_holds_its_whole_subject() {
        assert_eq!(file_name_of_subject("invoice 3/4\t\\x"), "invoice 3_4 _x.eml");
        assert_eq!(file_name_of_subject(""), "message.eml");
        assert_eq!(file_name_of_subject(&"é".repeat(400)).chars().count(), FILE_NAME_CHARS_MAX);
    }

    #[test]
    fn a_long_file_name_keeps_its_extension() {
        let name = file_name(&format!("{}.tar.gz", "ü".repeat(400)));
        assert!(name.ends_with("ü.gz") && name.chars().count() == FILE_NAME_CHARS_MAX, "{name}");
        let odd = file_name(&format!("a.{}", "b".repeat(400)));
        assert_eq!(odd.len(), FILE_NAME_CHARS_MAX);
        assert_eq!(file_name("C:\\x\\y.txt"), "y.txt");
    }

    const MIXED: &str = "From: =?utf-8?q?J=C3=B6rg?= <j@x.org>\r\nTo: a@penn.test, \"B, b\" <b@x.org>\r\n\
        Subject: =?utf-8?b?w7xiZXI=?=\r\nMessage-ID: <m1@x.org>\r\nReferences: <r1@x> <r2@x>\r\n\
        Date: Mon, 3 Nov 2025 14:02:00 +0100\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n> quoted\r\nHello\r\n  you\r\n\
        --b\r\nContent-Type: text/html; name=x\r\n\
        Content-Disposition: attachment; filename=\"../../et\tc/pass\u{202e}wd.html\"\r\n\r\n<b>hi</b>\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n--b--\r\n";

    #[test]
    fn a_summary_is_small_and_clean() {
        let summary = Summary::of(MIXED.as_bytes());
        assert_eq!(summary.from, "Jörg");
        assert_eq!(summary.to, "a@penn.test, B, b");
        assert_eq!(summary.subject, "über");
        assert_eq!(summary.snippet, "Hello you");
        assert_eq!(summary.date, 1_762_174_920);
        assert_eq!(summary.mid, id_hash("m1@x.org"));
        assert!(summary.attachments);
        assert!(serde_json::to_vec(&summary).unwrap().len() < 300);
    }

    #[test]
    fn a_letter_shows_people_text_and_files() {
        let letter = Letter::parse(MIXED.as_bytes()).unwrap();
        assert_eq!(letter.from(), [Person { name: "Jörg".into(), address: "j@x.org".into() }]);
        assert_eq!(letter.to().len(), 2);
        assert_eq!(letter.text(), ("> quoted\nHello\n  you".into(), false));
        assert_eq!(letter.thread(), ["r1@x", "r2@x", "m1@x.org"]);
        let files = letter.attachments();
        assert_eq!(files[0].name, "pass wd.html");
        assert_eq!(files[0].content_type, "text/html");
        assert_eq!(files[1].name, "inner.eml");
        assert_eq!(letter.attachment(0).unwrap().1, b"<b>hi</b>");
        assert!(letter.attachment(2).is_none());
    }

    #[test]
    fn html_alone_is_shown_as_text() {
        let html = "Content-Type: text/html\r\n\r\n<style>p{}</style><p>Hello <b>you</b></p><script>x()</script>";
        let (text, _) = Letter::parse(html.as_bytes()).unwrap().text();
        assert!(text.contains("Hello you"), "{text}");
        assert!(!text.contains("x()") && !text.contains("<p>"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_message_have_a_summary() {
        for bytes in [&b""[..], b"\r\n", b"no header at all", &[0xff; 300], b"\0\0\0"] {
            let summary = Summary::of(bytes);
            assert!(summary.mid.is_empty() && summary.snippet.chars().count() <= 120);
        }
        let long = format!("Subject: {}\r\n\r\nx", "é".repeat(100_000));
        assert_eq!(Summary::of(long.as_bytes()).subject.chars().count(), SUBJECT_CHARS_MAX);
    }

    #[test]
    fn trace_lines_are_lines() {
        let to = Address::parse("a@x.org").unwrap();
        let (from, by) = ("evil\r\nBcc: x (a", "penn.test");
        let line = Received { from, by, with: "ESMTP", id: "1", to: Some(&to), seconds: 0 };
        let line = line.to_string();
        assert_eq!(line.matches("\r\n").count(), 4, "{line}");
        assert!(line.contains("\r\n for <a@x.org>;"), "{line}");
        assert!(line.contains("Thu, 1 Jan 1970 00:00:00 +0000"), "{line}");
        assert_eq!(return_path(None), "Return-Path: <>\r\n");
    }

    #[test]
    fn references_stay_bounded_and_clean() {
        let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let kept = bound_references(ids);
        assert_eq!((kept.len(), kept[0].as_str(), kept[29].as_str()), (30, "0", "99"));
        for bad in ["", "<>", "a b", "a\r\nb", "a>b", "é@x"] {
            assert_eq!(check_id(bad), None, "{bad:?}");
        }
        assert_eq!(check_id(" <a@b> ").as_deref(), Some("a@b"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let message = [b"From: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", &bytes[..]].concat();
            for message in [bytes, message] {
                proptest::prop_assert!(serde_json::to_vec(&Summary::of(&message)).unwrap().len() < 8000);
                if let Ok(letter) = Letter::parse(&message) {
                    let text = (letter.text(), letter.subject(), letter.thread());
                    proptest::prop_assert!(!text.1.contains(['\r', '\n']));
                    for (index, file) in letter.attachments().into_iter().enumerate() {
                        proptest::prop_assert!(!file.name.contains(['/', '\\', '\r', '\n', '\0']));
                        proptest::prop_assert!(letter.attachment(index).is_some());
                    }
                }
            }
        }
    }
}
