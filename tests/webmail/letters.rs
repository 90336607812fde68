//! HTML messages as they are shown: harmless, in a frame, with their own pictures and nobody else's.

use super::Person;
use crate::harness::{Cluster, Smtp};
use base64::prelude::{BASE64_STANDARD, Engine};

/// The smallest PNG that there is.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const HTML: &str = "<h1 onclick=alert(1)>Offer</h1><script>alert(2)</script>\
    <p style='color:#c00;position:fixed'>red</p><img src='cid:pixel@x.org' alt=own>\
    <img src='https://tracker.example/1.gif' alt=theirs><img src='cid:page@x.org' alt=page>\
    <a href='https://x.org/a?b=c'>a link</a><a href='javascript:alert(3)'>no link</a>\
    <form action='https://x.org'><input name=password></form>";

fn message() -> Vec<u8> {
    let part = |head: &str, body: &str| format!("--B\r\n{head}\r\n\r\n{body}\r\n");
    [
        "From: Shop <shop@x.org>\r\nSubject: offer\r\nMIME-Version: 1.0\r\n",
        "Content-Type: multipart/related; boundary=B\r\n\r\n",
        &part("Content-Type: multipart/alternative; boundary=C", &alternatives()),
        &part(
            "Content-Type: image/png\r\nContent-ID: <pixel@x.org>\r\nContent-Transfer-Encoding: base64\
             \r\nContent-Disposition: inline; filename=pixel.png",
            PIXEL,
        ),
        &part(
            "Content-Type: text/html\r\nContent-ID: <page@x.org>\r\nContent-Disposition: attachment; filename=page.html",
            "<script>alert(4)</script>",
        ),
        "--B--\r\n",
    ]
    .concat()
    .into_bytes()
}

fn alternatives() -> String {
    format!(
        "--C\r\nContent-Type: text/plain\r\n\r\nan offer in words\r\n\
         --C\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{HTML}\r\n--C--\r\n"
    )
}

/// Somebody with the message, and its path.
fn reader() -> (Person, String) {
    let (mut anna, cluster) = (Person::new("anna", "f1"), Cluster::shared());
    let mut smtp = Smtp::connect(&cluster.address("s1")).unwrap();
    let reply = smtp.message("shop@x.org", &[&anna.address()], &message()).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    let letter = anna.letters("/mail")[0].clone();
    (anna, letter)
}

#[test]
fn html_is_shown_in_a_frame_and_is_harmless() {
    let (mut anna, letter) = reader();
    let page = anna.get(&letter);
    let frame = format!("src=\"{letter}/html\"");
    assert!(
        page.source().contains(&frame) && page.source().contains("sandbox=\"allow-same-origin")
    );
    assert!(!page.source().contains("allow-scripts") && !page.source().contains("Offer"));
    let html = anna.get(&format!("{letter}/html"));
    let policy = html.header("content-security-policy").unwrap();
    assert!(policy.starts_with("sandbox allow-same-origin allow-popups"), "{policy}");
    assert!(policy.contains("img-src 'self' data:;") && !policy.contains("script"), "{policy}");
    let html = html.source();
    for kept in ["Offer", "style=\"color:#c00\"", "href=\"https://x.org/a?b=c\"", "no link"] {
        assert!(html.contains(kept), "{kept}: {html}");
    }
    for odd in ["alert", "onclick", "tracker.example", "position", "<form", "<input", "javascript"]
    {
        assert!(!html.contains(odd), "{odd}: {html}");
    }
}

#[test]
fn own_pictures_are_shown_and_others_when_they_are_asked_for() {
    let (mut anna, letter) = reader();
    let page = anna.get(&letter);
    assert!(page.text().contains("1 picture of other sites is not shown"), "{}", page.text());
    assert!(page.text().contains("page.html") && !page.text().contains("pixel.png"));
    let html = anna.get(&format!("{letter}/html")).source();
    let at = html.find(&format!("{letter}/inline/")).expect("its own picture");
    let picture = html[at..].split('"').next().unwrap().to_string();
    let shown = anna.get(&picture);
    assert_eq!(shown.header("content-type"), Some("image/png"));
    assert_eq!(shown.body, BASE64_STANDARD.decode(PIXEL).unwrap());
    // What is no picture is never shown under our origin, whatever it is named by.
    for index in 0..3 {
        let path = format!("{letter}/inline/{index}");
        assert!(path == picture || anna.get(&path).status == 404, "{path}");
    }
    let shown = page.link("Show pictures");
    assert!(anna.get(&shown).source().contains(&format!("src=\"{letter}/html?images=1\"")));
    let html = anna.get(&format!("{letter}/html?images=1"));
    assert!(html.source().contains("src=\"https://tracker.example/1.gif\""));
    let policy = html.header("content-security-policy").unwrap();
    assert!(policy.contains("img-src 'self' data: http: https:;"), "{policy}");
}

#[test]
fn the_text_of_an_html_message_can_be_read_instead() {
    let (mut anna, letter) = reader();
    let text = anna.get(&letter).link("Show as plain text");
    let page = anna.get(&text);
    assert!(page.text().contains("an offer in words"), "{}", page.text());
    assert!(!page.source().contains("<iframe"));
    assert_eq!(page.link("Show as its author made it"), letter);
    let mut bert = Person::new("bert", "f1");
    for path in ["html", "inline/0"] {
        assert_eq!(bert.get(&format!("{letter}/{path}")).status, 404, "others do not see it");
    }
}
