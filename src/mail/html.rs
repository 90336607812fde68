//! HTML of messages made harmless: an allow-list of elements, attributes and styles, parsed and written anew by
//! `ammonia`. What is left cannot run, submit, refresh or load anything but pictures that the reader allowed.
//!
//! It is shown in a sandboxed frame under a policy of its own as well: this is the first of three walls.
//!
//! # Caveats
//!
//! * Style sheets are dropped, only `style` attributes are kept: a message that is laid out by its sheet alone looks
//!   plainer than its author meant.
//! * A message of more than 8,000 elements, such as a very long conversation in quotes, is shown as text.

use ammonia::{Builder, UrlRelative};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// Octets of HTML that are read; a message with more is shown as text.
pub const HTML_BYTES_MAX: usize = 512 << 10;
/// Elements of a message; one with more is shown as text. However they are nested, a parser takes a second at most.
const ELEMENTS_MAX: usize = 8000;
/// Elements within elements, as far as is seen without a parser; a message with more is shown as text.
const DEPTH_MAX: usize = 256;
/// Elements without an inside, or that an end may leave open.
const UNCOUNTED: &[&str] = &[
    "area", "base", "br", "col", "embed", "form", "hr", "img", "input", "link", "meta", "param",
    "source", "track", "wbr",
];
/// Elements that another of their kind ends.
const ENDED_BY_THEIR_LIKE: &[&str] = &["dd", "dt", "li", "option", "p", "td", "th", "tr"];
/// Types of pictures that a browser shows and that cannot act.
const PICTURE_TYPES: &[&str] =
    &["image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp"];
/// Pictures whose bytes stand in their URL.
const PICTURES: &[&str] =
    &["data:image/gif", "data:image/jpeg", "data:image/png", "data:image/webp"];

/// Elements that mail is made of, beside those that `ammonia` allows itself.
const TAGS: &[&str] = &["big", "font", "tt", "u"];
/// Attributes of any element.
const ATTRIBUTES: &[&str] =
    &["align", "bgcolor", "color", "dir", "height", "style", "valign", "width"];
/// Attributes of some.
const TAG_ATTRIBUTES: &[(&str, &[&str])] = &[
    ("font", &["face", "size"]),
    ("img", &["border", "hspace", "vspace"]),
    ("table", &["border", "cellpadding", "cellspacing"]),
    ("td", &["nowrap"]),
];
/// Properties of styles: none that takes a URL, none that places an element over others.
const STYLES: &[&str] = &[
    "background-color",
    "border",
    "border-bottom",
    "border-bottom-color",
    "border-bottom-style",
    "border-bottom-width",
    "border-collapse",
    "border-color",
    "border-left",
    "border-radius",
    "border-right",
    "border-spacing",
    "border-style",
    "border-top",
    "border-top-color",
    "border-top-style",
    "border-top-width",
    "border-width",
    "clear",
    "color",
    "direction",
    "display",
    "float",
    "font",
    "font-family",
    "font-size",
    "font-style",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "list-style-type",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-height",
    "max-width",
    "min-height",
    "min-width",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "table-layout",
    "text-align",
    "text-decoration",
    "text-indent",
    "text-transform",
    "vertical-align",
    "white-space",
    "width",
    "word-break",
    "word-spacing",
    "word-wrap",
];

/// What is done with pictures that lie on other hosts: loading one tells its host that the message was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// They are left out.
    Hidden,
    /// They are loaded.
    Shown,
}

/// HTML that can be shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Harmless {
    /// The HTML: what goes into a `body`.
    pub html: String,
    /// Pictures on other hosts, shown or left out.
    pub remote: usize,
    /// The Content-IDs of the message's own pictures that it shows.
    pub own: HashSet<String>,
}

/// Makes HTML harmless. `own` are the URLs of the message's own parts by their Content-IDs. `None` where it is too long
/// or too deep to be read within bounds.
pub fn harmless(html: &str, remote: Remote, own: HashMap<String, String>) -> Option<Harmless> {
    if html.len() > HTML_BYTES_MAX || elements(html) > ELEMENTS_MAX || depth(html) > DEPTH_MAX {
        return None;
    }
    let pictures = Arc::new(Mutex::new(Pictures::new(remote, own)));
    let seen = pictures.clone();
    let filter = move |element: &str, attribute: &str, value: &str| match (element, attribute) {
        ("img", "src") => seen.lock().expect("nobody panics with the lock").source(value),
        ("a", "href") => {
            has_scheme(value, &["http", "https", "mailto", "tel"]).then(|| value.into())
        }
        (_, "src" | "href" | "cite") => None,
        (_, "style") => (!loads(value)).then(|| value.into()),
        _ => Some(value.to_string()),
    };
    let html = cleaner()
        .attribute_filter(move |element, attribute, value| {
            filter(element, attribute, value).map(Cow::from)
        })
        .clean(html)
        .to_string();
    let seen = std::mem::take(&mut *pictures.lock().expect("nobody panics with the lock"));
    Some(Harmless { html, remote: seen.remote_seen, own: seen.own_seen })
}

/// A content type as one of pictures that cannot act, if it is.
pub fn picture_type(content_type: &str) -> Option<&'static str> {
    PICTURE_TYPES.iter().copied().find(|known| content_type.eq_ignore_ascii_case(known))
}

/// The pictures of a message while they are met.
#[derive(Default)]
struct Pictures {
    shows_remote: bool,
    own: HashMap<String, String>,
    remote_seen: usize,
    own_seen: HashSet<String>,
}

impl Pictures {
    fn new(remote: Remote, own: HashMap<String, String>) -> Pictures {
        Pictures { shows_remote: remote == Remote::Shown, own, ..Pictures::default() }
    }

    /// Where a picture is taken from: the message itself, its own bytes, or another host where that is allowed.
    fn source(&mut self, source: &str) -> Option<String> {
        if let Some(id) = source.strip_prefix("cid:") {
            let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
            let url = self.own.get(&*id)?.clone();
            self.own_seen.insert(id.into_owned());
            return Some(url);
        }
        if has_scheme(source, &["http", "https"]) {
            self.remote_seen += 1;
            return self.shows_remote.then(|| source.to_string());
        }
        PICTURES.iter().any(|kind| source.starts_with(kind)).then(|| source.to_string())
    }
}

/// Whether a URL begins with one of these schemes.
fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    let scheme = url.trim_start().split_once(':').map_or("", |(scheme, _)| scheme);
    schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// Whether a style could name something to load: by a function that takes a URL, or behind an escape.
fn loads(style: &str) -> bool {
    let style = style.to_ascii_lowercase();
    ["url", "image", "expression", "@", "\\"].iter().any(|odd| style.contains(odd))
}

fn cleaner() -> Builder<'static> {
    let mut cleaner = Builder::default();
    cleaner
        .add_tags(TAGS)
        .add_generic_attributes(ATTRIBUTES)
        .url_schemes(["http", "https", "mailto", "tel", "cid", "data"].into())
        // Which URLs are relative is for the filter of attributes to say: only ours are.
        .url_relative(UrlRelative::PassThrough)
        .clean_content_tags(["script", "style", "title"].into())
        .filter_style_properties(STYLES.iter().copied().collect())
        .link_rel(Some("noopener noreferrer nofollow"))
        .set_tag_attribute_value("a", "target", "_blank");
    for (tag, attributes) in TAG_ATTRIBUTES {
        cleaner.add_tag_attributes(tag, *attributes);
    }
    cleaner
}

/// Start tags: what a parser can nest.
fn elements(html: &str) -> usize {
    html.as_bytes().windows(2).filter(|two| two[0] == b'<' && two[1].is_ascii_alphabetic()).count()
}

/// How deep elements lie in one another, at least about: a parser's work grows with its square. Elements that an end
/// may leave open (`form`) count by what is in them.
fn depth(html: &str) -> usize {
    let (mut open, mut deepest) = (Vec::new(), 0);
    for piece in html.split('<').skip(1) {
        let end = piece.strip_prefix('/');
        let name = end.unwrap_or(piece).split(|c: char| !c.is_ascii_alphanumeric()).next();
        let name = name.unwrap_or_default();
        if name.is_empty() || UNCOUNTED.iter().any(|one| name.eq_ignore_ascii_case(one)) {
            continue;
        }
        let same = |other: &&str| other.eq_ignore_ascii_case(name);
        match end {
            Some(_) => {
                let at = open.iter().rposition(same);
                open.truncate(at.unwrap_or(open.len()));
            }
            None => {
                let ends_the_last =
                    ENDED_BY_THEIR_LIKE.iter().any(|one| name.eq_ignore_ascii_case(one));
                open.pop_if(|last| ends_the_last && same(last));
                open.push(name);
                deepest = deepest.max(open.len());
            }
        }
        if deepest > DEPTH_MAX {
            break;
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(html: &str) -> String {
        harmless(html, Remote::Hidden, HashMap::new()).expect("within bounds").html
    }

    #[test]
    fn nothing_that_acts_is_left() {
        for (sent, left) in [
            ("<script>x</script>a<style>b{}</style>", "a"),
            ("<b onclick=x>a</b>", "<b>a</b>"),
            ("<a href='javascript:x'>a</a>", "a"),
            ("<iframe src=//x></iframe><object data=x></object><embed src=x>", ""),
            ("<form action=//x><input name=a><button>b</button></form>", "b"),
            (
                "<meta http-equiv=refresh content='0;url=//x'><base href=//x><link rel=stylesheet href=//x>a",
                "a",
            ),
            ("<svg><a xlink:href=javascript:x>a</a></svg>b", "b"),
            ("<p id=x class=y name=z>a</p>", "<p>a</p>"),
        ] {
            let html = of(sent).replace(" rel=\"noopener noreferrer nofollow\"", "");
            let html = html.replace("<a target=\"_blank\">a</a>", "a");
            assert_eq!(html, left, "{sent}");
        }
    }

    #[test]
    fn styles_keep_their_looks_and_load_nothing() {
        assert_eq!(
            of("<p style='color:red;position:fixed;top:0'>a</p>"),
            "<p style=\"color:red\">a</p>"
        );
        for style in [
            "background-image:url(//x)",
            "color:u\\rl(x)",
            "width:expression(x)",
            "list-style:url(x)",
        ] {
            let html = of(&format!("<p style=\"{style}\">a</p>"));
            assert!(html == "<p>a</p>" || html == "<p style=\"\">a</p>", "{style}: {html}");
        }
    }

    #[test]
    fn links_open_elsewhere_and_tell_nothing() {
        let link = of("<a href='https://x.org/?a=b'>x</a>");
        for part in ["href=\"https://x.org/?a=b\"", "noreferrer", "target=\"_blank\""] {
            assert!(link.contains(part), "{link}");
        }
        for odd in ["//x.org", "/mail", "data:text/html,x", "file:///x", "vbscript:x"] {
            assert!(!of(&format!("<a href='{odd}'>x</a>")).contains("href"), "{odd}");
        }
    }

    #[test]
    fn pictures_of_other_hosts_are_asked_for_first() {
        let html = "<img src='https://x.org/1.gif'><img src=cid:a%40b><img src='data:image/png;base64,AA'>\
                    <img src='data:image/svg+xml,x'><img src=cid:none><img srcset='https://x.org/2.gif 2x'>";
        let own = HashMap::from([("a@b".to_string(), "/own/1".to_string())]);
        let hidden = harmless(html, Remote::Hidden, own.clone()).expect("within bounds");
        assert!(
            !hidden.html.contains("x.org") && hidden.html.contains("src=\"/own/1\""),
            "{hidden:?}"
        );
        assert!(
            hidden.html.contains("data:image/png") && !hidden.html.contains("svg"),
            "{hidden:?}"
        );
        assert_eq!((hidden.remote, hidden.own), (1, HashSet::from(["a@b".to_string()])));
        let shown = harmless(html, Remote::Shown, own).expect("within bounds").html;
        assert!(
            shown.contains("src=\"https://x.org/1.gif\"") && !shown.contains("srcset"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_too_deep_is_not_taken_apart() {
        for unit in ["<div>", "<ul><li>", "<blockquote>", "<form><div></form>", "<div></p>"] {
            assert_eq!(
                harmless(&unit.repeat(2 * DEPTH_MAX), Remote::Hidden, HashMap::new()),
                None,
                "{unit}"
            );
        }
        let hidden = "<div title='</div>'>".repeat(ELEMENTS_MAX + 1);
        assert_eq!(harmless(&hidden, Remote::Hidden, HashMap::new()), None);
        let flat =
            "<p>a<br><p>b<li>c<li>d<hr></p><img src=x><table><tr><td>e<td>f<tr><td>g</table>";
        assert!(depth(&flat.repeat(500)) < 10, "{}", depth(&flat.repeat(500)));
    }
}
