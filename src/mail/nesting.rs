//! Which messages are handed to the parser with all their parts. It takes messages apart that lie in messages,
//! however deep, and undoes them by recursion: depth is stack. Parts and fields cost memory, and each part
//! with parts of its own may have all that follows searched. A mail of 200 KB that does all that on purpose would end a
//! process, so its structure is counted first, by what every way of writing it must contain.
//!
//! What looks inside a message from outside cannot see into encoded ones. RFC 2046, section 5.2.1, allows no
//! encoding of a message within a message, and none is looked into here.

/// Messages within messages, and parts that have parts.
const CONTAINERS_MAX: usize = 200;
/// Lines that may separate two parts.
const SEPARATORS_MAX: usize = 100_000;

/// Fields of all heads.
const FIELDS_MAX: usize = 100_000;

/// Subtypes that make a part a message, or its parts messages unless they say otherwise.
const NESTING: [&[u8]; 3] = [b"rfc822", b"global", b"digest"];

/// Whether the parser can take all parts of a message. Of another one only the head is read.
pub(super) fn is_bounded(message: &[u8]) -> bool {
    let nesting = messages_within(message);
    nesting + count(message, b"multipart") <= CONTAINERS_MAX
        && message.split(|b| *b == b'\n').filter(|line| separates(line)).count() <= SEPARATORS_MAX
        && fields(message, nesting > 0) <= FIELDS_MAX
        && (nesting == 0 || !paragraphs(message).any(|head| hides_a_message(&head)))
}

/// Lines that may be fields: those of the first head, and of every run of lines with a separator in it; of
/// all runs, where there are messages within.
fn fields(message: &[u8], of_all: bool) -> usize {
    let (mut sum, mut run, mut is_head) = (0, 0, true);
    for line in message.split(|b| *b == b'\n') {
        if line.trim_ascii().is_empty() && run > 0 {
            sum += if is_head || of_all { run } else { 0 };
            (run, is_head) = (0, false);
        }
        run += usize::from(line.contains(&b':'));
        is_head |= separates(line);
    }
    sum + if is_head || of_all { run } else { 0 }
}

fn separates(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"--").is_some()
}

/// How often a text that may be the subtype of a message within stands where a subtype may.
fn messages_within(message: &[u8]) -> usize {
    let is_subtype = |at: &usize| {
        let filling = |b: &&u8| b.is_ascii_whitespace() || matches!(**b, b'"' | b'\\');
        matches!(message[..*at].iter().rev().find(|b| !filling(b)), Some(b'/' | b')'))
    };
    NESTING.iter().map(|subtype| places(message, subtype).filter(is_subtype).count()).sum()
}

fn count(message: &[u8], word: &'static [u8]) -> usize {
    places(message, word).count()
}

/// Where a word in lower case stands, in any case.
fn places<'m>(message: &'m [u8], word: &'static [u8]) -> impl Iterator<Item = usize> + 'm {
    let first = [word[0], word[0].to_ascii_uppercase()];
    memchr::memchr2_iter(first[0], first[1], message).filter(move |at| {
        message.get(*at..*at + word.len()).is_some_and(|there| there.eq_ignore_ascii_case(word))
    })
}

/// All runs of lines that are not blank, in lower case and without white space: the head of a part lies in
/// one of them.
fn paragraphs(message: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut lines = message.split(|b| *b == b'\n');
    std::iter::from_fn(move || {
        let mut paragraph: Option<Vec<u8>> = None;
        for line in lines.by_ref() {
            let line = line.trim_ascii();
            if line.is_empty() && paragraph.as_ref().is_some_and(|p| !p.is_empty()) {
                break;
            }
            let kept = line.iter().filter(|b| !b.is_ascii_whitespace());
            paragraph.get_or_insert_default().extend(kept.map(u8::to_ascii_lowercase));
        }
        paragraph
    })
}

/// Whether a head may be that of an encoded message: it names such a type, or none, and an encoding.
fn hides_a_message(head: &[u8]) -> bool {
    let may_be_message = messages_within(head) > 0 || count(head, b"content-type:") == 0;
    may_be_message && encodings(head).any(|encoding| !is_none(encoding))
}

fn encodings(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    const FIELD: &[u8] = b"content-transfer-encoding:";
    places(head, FIELD).map(|at| &head[at + FIELD.len()..])
}

fn is_none(encoding: &[u8]) -> bool {
    [b"7bit".as_slice(), b"8bit", b"binary"].iter().any(|none| encoding.starts_with(none))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize, head: &str) -> Vec<u8> {
        format!("From: a@b\r\n{}Subject: x\r\n\r\nend\r\n", head.repeat(levels)).into_bytes()
    }

    #[test]
    fn usual_messages_are_bounded() {
        let forwarded = "From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n\
            --x\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: y\r\n\r\n\
            --x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--x--\r\n";
        assert!(is_bounded(forwarded.as_bytes()));
        assert!(is_bounded("global and message, digest and rfc822. ".repeat(1000).as_bytes()));
        assert!(is_bounded(b"") && is_bounded(b"\n\n"));
    }

    #[test]
    fn messages_in_messages_are_counted_however_they_are_written() {
        for head in [
            "Content-Type: message/rfc822\r\n\r\n",
            "content-TYPE:MESSAGE/RFC822\r\n\r\n",
            "Content-Type: message/ (a comment) global\r\n\r\n",
            "Content-Type: message/\"rfc822\"\r\n\r\n",
            "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\n",
        ] {
            assert!(is_bounded(&nested(50, head)), "{head:?}");
            assert!(!is_bounded(&nested(300, head)), "{head:?}");
        }
    }

    #[test]
    fn encoded_messages_in_messages_are_not_looked_into() {
        for head in [
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            "Content-Transfer-Encoding:\r\n =?utf-8?q?base64?=\r\nContent-Type: message/global\r\n\r\n",
            "Content-Type: message/rfc822\r\nContent-Transfer - Encoding: Quoted-Printable\r\n\r\n",
            "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        ] {
            assert!(!is_bounded(&nested(1, head)), "{head:?}");
        }
    }

    #[test]
    fn fields_are_counted_but_not_lines_of_text() {
        let many = "a:\r\n".repeat(FIELDS_MAX + 1);
        assert!(!is_bounded(many.as_bytes()));
        assert!(!is_bounded(format!("From: a@b\r\n\r\ntext\r\n\r\n--b\r\n{many}").as_bytes()));
        assert!(is_bounded(format!("From: a@b\r\n\r\n{many}").as_bytes()));
    }

    #[test]
    fn parts_are_counted() {
        assert!(is_bounded(&b"--b\r\n\r\n".repeat(SEPARATORS_MAX)));
        assert!(!is_bounded(&b"--b\r\n\r\n".repeat(SEPARATORS_MAX + 1)));
    }
}
