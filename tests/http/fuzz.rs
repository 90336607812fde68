//! Inputs that are damaged at random, for a bounded time. A run begins at a random seed, and a failure names the seed of its
//! input: `FUZZ=<seed>` makes that one again.

use super::pieces::{parts, requests};
use super::vectors::{forms, llhttp};
use crate::harness::long;
use penncloud::config::Scheme;
use penncloud::http::conditional::{Wanted, wanted};
use penncloud::http::head::{Framing, Version};
use penncloud::http::target::{Target, check_authority, decode, is_local};
use penncloud::http::{Headers, Method, Response, cookie};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Words that mean something to one parser or another.
const WORDS: [&str; 40] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "\\",
    "--",
    "%",
    "%00",
    "%2e%2e",
    "%2f",
    "/",
    "//",
    "/..",
    "?",
    "#",
    "@",
    "*",
    "0",
    "ffffffffffffffff",
    "-1",
    "Host: h\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "HTTP/1.0",
    "Expect: 100-continue\r\n",
    "0\r\n\r\n",
    "bytes=0-",
    "W/\"a\"",
    "__Host-",
    "http://",
    "\u{fc}",
    "filename=\"",
    "[::1]",
];

/// Random numbers of a seed (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    /// One of the corpus, damaged a few times.
    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.of(corpus).clone();
        for _ in 0..self.below(4) {
            self.damage(&mut bytes, corpus);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(8)).min(bytes.len());
        let other = self.of(corpus);
        let new = match self.below(6) {
            0 => vec![self.next() as u8],
            1 => self.of(&WORDS).as_bytes().to_vec(),
            2 => Vec::new(),
            3 => bytes[at..end].repeat(2),
            4 => other[self.below(other.len() + 1)..].iter().copied().take(40).collect(),
            _ => return bytes.truncate(at),
        };
        let end = if self.below(2) == 0 { at } else { end };
        bytes.splice(at..end, new);
    }
}

fn time() -> Duration {
    Duration::from_millis(if long() { 60_000 } else { 150 })
}

/// Judges inputs until the time is over.
fn fuzz(corpus: &[Vec<u8>], judge: impl Fn(&[u8], &mut Random)) {
    let fixed = std::env::var("FUZZ").ok().and_then(|seed| seed.parse().ok());
    let mut seed = fixed.unwrap_or_else(|| {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("random bytes");
        u64::from_le_bytes(random)
    });
    let end = Instant::now() + time();
    loop {
        let mut random = Random(seed | 1);
        let input = random.input(corpus);
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&input, &mut random)));
        assert!(judged.is_ok(), "FUZZ={seed}: {:?}", String::from_utf8_lossy(&input));
        if fixed.is_some() || Instant::now() > end {
            return;
        }
        seed = random.next();
    }
}

#[test]
fn what_is_served_as_a_request_keeps_every_rule() {
    let corpus: Vec<_> = llhttp().iter().map(|vector| vector.bytes()).collect();
    fuzz(&corpus, |bytes, random| {
        let whole = requests(bytes, usize::MAX);
        let cut = requests(bytes, 1 + random.below(20));
        assert_eq!(format!("{whole:?}"), format!("{cut:?}"), "cut elsewhere it is something else");
        for (head, body) in &whole.0 {
            let count = |name: &str| head.headers.all(name).count();
            assert!(head.version == Version::Http10 || count("host") == 1);
            assert!(count("content-length") + count("transfer-encoding") <= 1);
            match head.framing {
                Framing::Length(n) => assert_eq!(body.len() as u64, n),
                Framing::Chunked => assert!(head.version == Version::Http11),
            }
            let fields = head.headers.iter().flat_map(|(name, value)| [name, value]);
            assert!(fields.into_iter().all(|text| !text.contains(['\r', '\n', '\0'])));
            check_target(&head.target);
        }
    });
}

fn check_target(target: &Target) {
    let Target { path, raw, authority } = target;
    assert!(path == "*" || path.starts_with('/'));
    assert!(!path.split('/').any(|segment| segment == ".." || segment == "."));
    assert!(
        !path.chars().any(|c| c.is_ascii_control()) && raw.bytes().all(|b| b.is_ascii_graphic())
    );
    assert!(authority.as_ref().is_none_or(|a| check_authority(a).is_ok()));
}

#[test]
fn a_target_is_decoded_to_a_path_or_refused() {
    let corpus = ["/", "/a/b%20c?d=e", "/gr%C3%BCn/%2e", "http://h:1/a", "//evil", "/\\evil", "*"];
    fuzz(&corpus.map(|text| text.as_bytes().to_vec()), |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(target) = Target::parse(&text) {
            check_target(&target);
            let encoded = percent_encoding::utf8_percent_encode(
                &target.path,
                percent_encoding::NON_ALPHANUMERIC,
            );
            assert_eq!(decode(&encoded.to_string()).as_deref(), Ok(target.path.as_str()));
        }
        if is_local(&text) {
            assert!(text.starts_with('/') && !text[1..].starts_with(['/', '\\']));
            assert!(Response::redirect(&text).header("location").expect("one").starts_with('/'));
        }
        let location = Response::redirect(&text).with_header("X-Name", text.clone().into_owned());
        assert!(location.fields().all(|(_, value)| !value.contains(['\r', '\n', '\0'])));
    });
}

#[test]
fn a_cookie_is_what_stands_behind_its_name() {
    let corpus = ["a=b; c=d", "__Host-a=b;a=c", "a=\"b;c\"", "a", "=a"];
    fuzz(&corpus.map(|text| text.as_bytes().to_vec()), |bytes, _| {
        let mut headers = Headers::default();
        headers.add("Cookie", bytes);
        let field = headers.get("cookie").expect("it was added").to_string();
        for (scheme, name) in [(Scheme::Http, "a"), (Scheme::Https, "__Host-a")] {
            if let Some(value) = cookie::find(&headers, scheme, "a") {
                assert!(!value.contains(';') && field.contains(&format!("{name}={value}")));
            }
        }
    });
}

#[test]
fn a_range_lies_within_what_there_is() {
    let corpus = ["bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-18446744073709551615"];
    fuzz(&corpus.map(|text| text.as_bytes().to_vec()), |bytes, random| {
        let (mut headers, length) = (Headers::default(), random.below(9) as u64);
        headers.add("Range", bytes);
        if let Wanted::Part(part) = wanted(Method::Get, &headers, "\"a\"", length) {
            assert!(part.start < part.end && part.end <= length);
        }
    });
}

#[test]
fn a_form_gives_no_more_than_was_sent() {
    let forms = forms();
    let corpus: Vec<_> = forms.iter().map(|form| form.bytes()).collect();
    let types: Vec<_> = forms.iter().map(|form| form.content_type()).collect();
    fuzz(&corpus, |bytes, random| {
        let content_type = random.of(&types);
        let whole = parts(content_type, bytes, usize::MAX);
        let cut = parts(content_type, bytes, 1 + random.below(20));
        assert_eq!(whole.as_ref().ok(), cut.as_ref().ok(), "cut elsewhere it is something else");
        let read: usize = whole.iter().flatten().map(|(.., bytes)| bytes.len()).sum();
        assert!(read <= bytes.len());
    });
}
