//! Webmail through its real pages, over a real cluster. The visitors here have no scripts.

mod letters;

use crate::harness::web::{Page, Upload};
use crate::harness::{Cluster, Smtp, Web, eventually, html, noise};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const PASSWORD: &str = "correct horse battery";
/// A name that tries to be a tag.
const EVIL: &str = "\"><img src=x onerror=alert(1)>";

/// Somebody who uses webmail.
struct Person {
    name: String,
    web: Web,
}

impl Person {
    fn new(stem: &str, frontend: &str) -> Person {
        Person::at(&Cluster::shared(), stem, frontend)
    }

    fn at(cluster: &Cluster, stem: &str, frontend: &str) -> Person {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{stem}wm{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut web = Web::new(&cluster.address(frontend));
        let fields = [("username", name.as_str()), ("password", PASSWORD)];
        let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
        assert_eq!(page.path, "/mail", "{}", page.text());
        Person { name, web }
    }

    fn address(&self) -> String {
        format!("{}@penn.test", self.name)
    }

    fn get(&mut self, path: &str) -> Page {
        self.web.get(path).unwrap()
    }

    /// Fills in the compose page at a path and presses a button.
    fn compose(&mut self, path: &str, fields: &[(&str, &str)], files: &[Upload]) -> Page {
        self.web.submit(path, "/mail/compose", fields, files).unwrap()
    }

    fn send(&mut self, to: &str, subject: &str, text: &str) -> Page {
        let fields = [("to", to), ("subject", subject), ("text", text), ("action", "send")];
        self.compose("/mail/compose", &fields, &[])
    }

    /// Paths of the messages that a list shows.
    fn letters(&mut self, list: &str) -> Vec<String> {
        let page = self.get(list);
        assert_eq!(page.status, 200, "{}", page.text());
        let links = paths(&page);
        let is_letter =
            |l: &String| l.starts_with("/mail/m/") || l.starts_with("/mail/compose?draft=");
        links.into_iter().filter(is_letter).collect()
    }

    /// Subjects of the messages in a folder, with its first page alone.
    fn subjects(&mut self, list: &str) -> Vec<String> {
        let source = self.get(list).source();
        let subjects = source.split("<span class=\"subject\">").skip(1);
        let mut found: Vec<String> =
            subjects.map(|rest| rest.split('<').next().unwrap().to_string()).collect();
        found.sort();
        found
    }

    /// Sends the same page at one frontend and the other until it says that it was sent.
    fn send_until_sent(&mut self, cluster: &Cluster, to: &str, subject: &str) {
        let hosts = ["f1", "f2"].map(|name| cluster.address(name));
        let mut n = 0;
        let mut turn = |web: &mut Web| {
            n += 1;
            web.host = hosts[n % 2].clone();
        };
        let mut form = eventually("a compose page", || {
            turn(&mut self.web);
            self.web.get("/mail/compose").ok().filter(|page| page.status == 200)
        })
        .form("/mail/compose");
        let fields = [("to", to), ("subject", subject), ("text", "x"), ("action", "send")];
        fields.iter().for_each(|(name, value)| form.set(name, value));
        eventually("a message is sent", || {
            turn(&mut self.web);
            let page = self.web.post_multipart("/mail/compose", &form).ok()?;
            page.text().contains("Message sent.").then_some(())
        });
    }

    /// Presses a button of a list, with messages chosen.
    fn act(&mut self, list: &str, action: &str, letters: &[String]) -> Page {
        let mut form = self.get(list).form("/mail/act");
        for letter in letters {
            let place = letter.trim_start_matches("/mail/m/").to_string();
            form.fields.push(("place".into(), place));
        }
        form.fields.push(("action".into(), action.into()));
        self.web.post("/mail/act", &form.fields).unwrap()
    }
}

/// Where the links of a page lead.
fn paths(page: &Page) -> Vec<String> {
    html::links(&page.source()).into_iter().map(|(path, _)| path).collect()
}

fn two() -> (Person, Person) {
    (Person::new("anna", "f1"), Person::new("bert", "f2"))
}

#[test]
fn a_message_goes_from_one_person_to_another() {
    let (mut anna, mut bert) = two();
    let page = anna.send(&bert.address(), "Grüße & <Küsse>", "Hello Bert,\r\n.\r\nsee you.");
    assert_eq!(page.path, "/mail", "{}", page.text());
    assert!(page.text().contains("Message sent."), "{}", page.text());
    assert_eq!(anna.letters("/mail/f/drafts").len(), 0);
    assert_eq!(anna.letters("/mail/f/sent").len(), 1);

    let list = bert.get("/mail");
    assert!(list.source().contains("<title>(1) Inbox"), "the title counts");
    assert!(list.text().contains("Grüße & <Küsse>"), "{}", list.text());
    let letters = bert.letters("/mail");
    let message = bert.get(&letters[0]);
    assert!(message.text().contains("Hello Bert,\n.\nsee you."), "{}", message.text());
    assert!(message.text().contains(&anna.address()));
    assert!(bert.get("/mail").source().contains("<title>Inbox"), "it was read");
}

#[test]
fn an_answer_goes_back_and_keeps_the_thread() {
    let (mut anna, mut bert) = two();
    anna.send(&bert.address(), "Plans", "What about Monday?");
    let place = bert.letters("/mail")[0].trim_start_matches("/mail/m/").to_string();
    let path = format!("/mail/compose?reply={place}");
    let form = bert.get(&path).form("/mail/compose");
    let field = |name: &str| form.fields.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!((field("to"), field("subject")), (anna.address(), "Re: Plans".into()));
    assert!(field("text").contains("> What about Monday?"), "{}", field("text"));
    let page = bert.compose(&path, &[("action", "send")], &[]);
    assert!(page.text().contains("Message sent."), "{}", page.text());
    assert!(bert.get("/mail").text().contains("Answered"), "the message says so");

    let letters = anna.letters("/mail");
    let original = anna.get(&format!("{}/original", letters[0]));
    assert_eq!(original.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(original.header("content-security-policy"), Some("sandbox; default-src 'none'"));
    let text = original.source();
    let sent = anna.letters("/mail/f/sent");
    let first = anna.get(&format!("{}/original", sent[0])).source();
    let id = first.split("Message-ID: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(text.contains(&format!("In-Reply-To: {id}")), "{text}");
    assert!(text.contains(&format!("References: {id}")), "{text}");
}

#[test]
fn files_are_forwarded_byte_for_byte_without_sending_them_again() {
    let (mut anna, mut bert) = two();
    let mut carl = Person::new("carl", "f1");
    let bytes = noise(7, 1_500_000);
    let fields = [("to", &*bert.address()), ("subject", "Files"), ("action", "send")];
    let files = [
        Upload { field: "file", name: "büro \"1\".bin", bytes: &bytes },
        Upload { field: "file", name: "../../evil.html", bytes: b"<script>alert(1)</script>" },
    ];
    let page = anna.compose("/mail/compose", &fields, &files);
    assert!(page.text().contains("Message sent."), "{}", page.text());

    let place = bert.letters("/mail")[0].trim_start_matches("/mail/m/").to_string();
    let path = format!("/mail/compose?forward={place}");
    let page = bert.compose(&path, &[("to", &carl.address()), ("action", "send")], &[]);
    assert!(page.text().contains("Message sent."), "{}", page.text());

    let letter = carl.letters("/mail")[0].clone();
    let message = carl.get(&letter);
    assert!(message.text().contains("Forwarded message"), "{}", message.text());
    let first = carl.get(&format!("{letter}/file/0"));
    assert!(first.body == bytes, "{} bytes came", first.body.len());
    let disposition = first.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment; ") && disposition.contains("b%C3%BCro"));
    let evil = carl.get(&format!("{letter}/file/1"));
    assert_eq!(evil.header("content-type"), Some("application/octet-stream"));
    assert_eq!(evil.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(evil.header("content-security-policy"), Some("sandbox; default-src 'none'"));
    assert!(evil.header("content-disposition").unwrap().contains("filename=\"evil.html\""));
    assert_eq!(carl.get(&format!("{letter}/file/2")).status, 404);
    let eml = carl.get(&format!("{letter}/eml"));
    assert_eq!(eml.header("content-type"), Some("message/rfc822"));
}

#[test]
fn a_foreign_address_is_refused_and_nothing_is_lost() {
    let (mut anna, mut bert) = two();
    let to = format!("{}, dan@example.org, ghost@penn.test", bert.address());
    let fields = [
        ("to", &*to),
        ("bcc", "zoe@x.org"),
        ("subject", "Kept"),
        ("text", "all of it"),
        ("action", "send"),
    ];
    let files = [Upload { field: "file", name: "a.txt", bytes: b"kept too" }];
    let page = anna.compose("/mail/compose", &fields, &files);
    assert_eq!(page.status, 422);
    let text = page.text();
    assert!(text.contains("dan@example.org is not at penn.test"), "{text}");
    assert!(text.contains("ghost@penn.test: nobody here has this address"), "{text}");
    assert_eq!(bert.letters("/mail").len(), 0, "nobody got it");

    let draft = anna.letters("/mail/f/drafts");
    assert_eq!(draft.len(), 1);
    for form in [page.form("/mail/compose"), anna.get(&draft[0]).form("/mail/compose")] {
        let field = |name: &str| form.fields.iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!(field("to"), to);
        assert_eq!(field("bcc"), "zoe@x.org");
        assert_eq!((field("subject"), field("text")), ("Kept".into(), "all of it".into()));
        assert_eq!(field("keep"), "0", "the file is still attached");
    }
    let fields = [("to", &*bert.address()), ("bcc", ""), ("action", "send")];
    let page = anna.compose(&draft[0], &fields, &[]);
    assert!(page.text().contains("Message sent."), "{}", page.text());
    assert_eq!(anna.letters("/mail/f/drafts").len(), 0);
    let letter = bert.letters("/mail")[0].clone();
    assert_eq!(bert.get(&format!("{letter}/file/0")).body, b"kept too");
}

#[test]
fn sending_the_same_page_twice_delivers_once() {
    let (mut anna, mut bert) = two();
    let mut form = anna.get("/mail/compose").form("/mail/compose");
    let fields =
        [("to", &*bert.address()), ("subject", "Once"), ("text", "only"), ("action", "send")];
    fields.iter().for_each(|(name, value)| form.set(name, value));
    let mut there = anna.web.clone();
    there.host = Cluster::shared().address("f2");
    let pages = [&mut anna.web, &mut there].map(|web| web.post_multipart("/mail/compose", &form));
    for page in pages {
        let page = page.unwrap();
        assert!(page.text().contains("Message sent."), "{}", page.text());
    }
    assert_eq!(bert.letters("/mail").len(), 1);
    assert_eq!(anna.letters("/mail/f/sent").len(), 1);
    assert_eq!(anna.letters("/mail/f/drafts").len(), 0);
}

#[test]
fn a_page_that_was_sent_and_says_something_else_is_another_message() {
    let (mut anna, mut bert) = two();
    let mut form = anna.get("/mail/compose").form("/mail/compose");
    for (text, action) in [("one", "send"), ("two", "send"), ("three", "save")] {
        let to = bert.address();
        let fields = [("to", &*to), ("subject", text), ("text", text), ("action", action)];
        fields.iter().for_each(|(name, value)| form.set(name, value));
        anna.web.post_multipart("/mail/compose", &form).unwrap();
    }
    assert_eq!(bert.subjects("/mail"), ["one", "two"]);
    let draft = anna.letters("/mail/f/drafts")[0].clone();
    let page = anna.compose(&draft, &[("text", "four"), ("action", "send")], &[]);
    assert!(page.text().contains("Message sent."), "{}", page.text());
    for (person, folder) in [(&mut bert, "/mail"), (&mut anna, "/mail/f/sent")] {
        assert_eq!(person.subjects(folder), ["one", "three", "two"]);
    }
    assert_eq!(anna.subjects("/mail/f/drafts"), [""; 0]);
}

#[test]
fn two_frontends_that_send_the_same_page_at_once_deliver_once() {
    let (mut anna, mut bert) = two();
    for round in 0..4 {
        let mut form = anna.get("/mail/compose").form("/mail/compose");
        let subject = format!("Race {round}");
        let fields = [("to", &*bert.address()), ("subject", &subject), ("action", "send")];
        fields.iter().for_each(|(name, value)| form.set(name, value));
        let mut there = anna.web.clone();
        there.host = Cluster::shared().address("f2");
        std::thread::scope(|scope| {
            scope.spawn(|| anna.web.post_multipart("/mail/compose", &form));
            scope.spawn(|| there.post_multipart("/mail/compose", &form));
        });
        assert_eq!(bert.letters("/mail").len(), round + 1);
        assert_eq!(anna.letters("/mail/f/sent").len(), round + 1);
    }
}

#[test]
fn blind_recipients_are_seen_by_the_author_alone() {
    let (mut anna, mut bert) = two();
    let mut carl = Person::new("carl", "f2");
    let fields = [
        ("to", &*bert.address()),
        ("bcc", &*carl.address()),
        ("subject", "Secret"),
        ("text", "x"),
        ("action", "send"),
    ];
    anna.compose("/mail/compose", &fields, &[]);
    for person in [&mut bert, &mut carl] {
        let letter = person.letters("/mail")[0].clone();
        let original = person.get(&format!("{letter}/original")).source();
        assert!(!original.contains(&fields[1].1[..5]), "{original}");
    }
    let sent = anna.letters("/mail/f/sent")[0].clone();
    assert!(anna.get(&sent).text().contains(fields[1].1));
    assert!(!anna.get(&format!("{sent}/original")).source().contains(fields[1].1));
}

#[test]
fn buttons_move_mark_star_and_delete() {
    let (mut anna, mut bert) = two();
    (0..4).for_each(|n| assert_eq!(anna.send(&bert.address(), &format!("n{n}"), "x").status, 200));
    let letters = bert.letters("/mail");
    let page = bert.act("/mail", "read", &letters[..2]);
    assert!(page.text().contains("2 messages marked."), "{}", page.text());
    assert!(page.source().contains("<title>(2) Inbox"));
    bert.act("/mail", "unread", &letters[..1]);
    assert!(bert.get("/mail").source().contains("<title>(3) Inbox"));
    let page = bert.act("/mail", "move-archive", &letters[..1]);
    assert!(page.text().contains("Message moved."), "{}", page.text());
    assert_eq!(bert.letters("/mail/f/archive").len(), 1);
    bert.act("/mail", "delete", &letters[1..3]);
    assert_eq!(bert.letters("/mail").len(), 1);
    let trash = bert.letters("/mail/f/trash");
    assert_eq!(trash.len(), 2);
    let page = bert.act("/mail/f/trash", "delete", &trash);
    assert!(page.text().contains("2 messages deleted."), "{}", page.text());
    assert_eq!(bert.letters("/mail/f/trash").len(), 0);
    assert_eq!(bert.get(&trash[0]).status, 404);
    assert!(bert.act("/mail", "delete", &[]).text().contains("No message was chosen."));

    let mut form = bert.get("/mail").form("/mail/act");
    form.set("star", letters[3].trim_start_matches("/mail/m/"));
    let page = bert.web.post("/mail/act", &form.fields).unwrap();
    assert!(page.source().contains("aria-pressed=\"true\""), "the star is on");
}

#[test]
fn pages_lead_to_older_messages_and_back() {
    let (mut anna, mut bert) = two();
    (0..52).for_each(|n| assert_eq!(anna.send(&bert.address(), &format!("n{n}"), "x").status, 200));
    let first = bert.get("/mail");
    assert!(first.text().contains("1–50 of 52"), "{}", first.text());
    let link =
        |page: &Page, word: &str| paths(page).into_iter().find(|path| path.contains(word)).unwrap();
    let older = bert.get(&link(&first, "?before="));
    assert!(older.text().contains("51–52 of 52"), "{}", older.text());
    let newer = bert.get(&link(&older, "?after="));
    assert_eq!(bert.letters(&newer.path).len(), 50);
    assert!(newer.text().contains("1–50 of 52"), "{}", newer.text());
}

#[test]
fn mail_cannot_put_tags_on_pages() {
    let (mut anna, mut bert) = two();
    let files = [Upload { field: "file", name: EVIL, bytes: b"x" }];
    let to = format!("\"{}\" <{}>", EVIL.replace('"', "'"), bert.address());
    let fields = [("to", &*to), ("subject", EVIL), ("text", EVIL), ("action", "send")];
    let page = anna.compose("/mail/compose", &fields, &files);
    assert!(page.text().contains("Message sent."), "{}", page.text());
    let letter = bert.letters("/mail")[0].clone();
    let place = letter.trim_start_matches("/mail/m/");
    for path in [
        "/mail".to_string(),
        letter.clone(),
        format!("/mail/compose?reply_all={place}"),
        format!("/mail/compose?forward={place}"),
    ] {
        let page = bert.get(&path);
        assert!(!page.source().contains("<img src=x"), "{path}: {}", page.source());
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"));
    }
}

#[test]
fn a_message_nested_without_end_is_taken_and_shown_as_it_came() {
    let (mut anna, cluster) = (Person::new("anna", "f1"), Cluster::shared());
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(50_000);
    let mail = format!("From: eve@x.org\r\nSubject: dolls\r\n{nested}");
    let mut smtp = Smtp::connect(&cluster.address("s1")).unwrap();
    let reply = smtp.message("eve@x.org", &[&anna.address()], mail.as_bytes()).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(anna.subjects("/mail"), ["dolls"]);
    let letter = anna.letters("/mail")[0].clone();
    let page = anna.get(&letter);
    assert!(page.text().contains("only the beginning of a long message"), "{}", page.text());
    let place = letter.trim_start_matches("/mail/m/");
    for path in ["compose?reply", "compose?forward"] {
        assert_eq!(anna.get(&format!("/mail/{path}={place}")).status, 200);
    }
}

#[test]
fn a_letter_outlives_the_session_in_which_it_was_begun() {
    let (mut anna, mut bert) = two();
    let mut form = anna.get("/mail/compose").form("/mail/compose");
    let text = "Dear <Bert>,\n\nnot lost.";
    let fields =
        [("to", &*bert.address()), ("subject", "Kept"), ("text", text), ("action", "send")];
    fields.iter().for_each(|(name, value)| form.set(name, value));
    anna.web.submit("/mail", "/logout", &[], &[]).unwrap();

    let page = anna.web.post_multipart("/mail/compose", &form).unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("You are signed out: nothing was sent"), "{}", page.text());
    assert!(page.source().contains("Dear &#60;Bert&#62;,\n\nnot lost."), "{}", page.source());
    let mut door = page.form("/login");
    door.set("username", &anna.name);
    door.set("password", "not the password");
    let mut door = anna.web.send(&door, &[]).unwrap().form("/login");
    door.set("password", PASSWORD);
    let again = anna.web.send(&door, &[]).unwrap();
    assert!(again.text().contains("Nothing has been sent yet"), "{}", again.text());
    assert_eq!(bert.letters("/mail").len(), 0);
    let mut form = again.form("/mail/compose");
    form.set("action", "send");
    let sent = anna.web.post_multipart("/mail/compose", &form).unwrap();
    assert!(sent.text().contains("Message sent."), "{}", sent.text());
    let letter = bert.letters("/mail")[0].clone();
    assert!(bert.get(&letter).text().contains(text), "{}", bert.get(&letter).text());
}

#[test]
fn a_letter_of_an_earlier_session_is_shown_again_and_not_sent() {
    let (mut anna, mut bert) = two();
    let mut form = anna.get("/mail/compose").form("/mail/compose");
    let fields = [("to", &*bert.address()), ("text", "still here"), ("action", "send")];
    fields.iter().for_each(|(name, value)| form.set(name, value));
    anna.web.submit("/mail", "/logout", &[], &[]).unwrap();
    let fields = [("username", anna.name.as_str()), ("password", PASSWORD)];
    anna.web.submit("/login", "/login", &fields, &[]).unwrap();
    let page = anna.web.post_multipart("/mail/compose", &form).unwrap();
    assert_eq!(page.status, 403, "{}", page.text());
    assert!(page.source().contains("still here"), "{}", page.source());
    assert_eq!(bert.letters("/mail").len(), 0);
    let mut form = page.form("/mail/compose");
    form.set("action", "send");
    let sent = anna.web.post_multipart("/mail/compose", &form).unwrap();
    assert!(sent.text().contains("Message sent."), "{}", sent.text());
}

#[test]
fn what_is_done_without_a_session_is_said_to_be_undone() {
    let mut guest = Web::new(&Cluster::shared().address("f1"));
    let kind = ("Content-Type", "application/x-www-form-urlencoded".to_string());
    let from = ("Referer", format!("http://{}/mail/f/spam", guest.host));
    let page = guest.once("POST", "/mail/act", &[kind, from], b"action=delete").unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("You are signed out: nothing was sent, saved or changed."));
    let form = page.form("/login");
    assert!(form.fields.contains(&("next".into(), "/mail/f/spam".into())), "{:?}", form.fields);
    let script = [("Accept", "application/json".to_string())];
    let told = guest.once("POST", "/files/x/upload", &script, b"").unwrap();
    assert_eq!(told.status, 403);
    assert!(told.source().contains("\"fault\":\"You are signed out"), "{}", told.source());
}

#[test]
fn nobody_acts_without_the_token_or_on_others() {
    let (mut anna, mut bert) = two();
    anna.send(&bert.address(), "mine", "x");
    let letter = bert.letters("/mail")[0].clone();
    let place = letter.trim_start_matches("/mail/m/").to_string();
    let fields = [("place", place.as_str()), ("action", "delete")];
    let fields: Vec<_> = fields.map(|(n, v)| (n.to_string(), v.to_string())).into();
    assert_eq!(bert.web.post("/mail/act", &fields).unwrap().status, 403);
    assert_eq!(bert.letters("/mail").len(), 1);
    assert_eq!(anna.get(&letter).status, 404, "numbers are each user's own");
    for path in ["/mail/m/inbox/x", "/mail/m/x/1", "/mail/f/x", "/mail/compose?reply=inbox/99"] {
        assert_eq!(anna.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_text_that_is_too_long_is_given_back() {
    let (mut anna, bert) = two();
    let text = "long words ".repeat(100_000);
    let page = anna.send(&bert.address(), "Novel", &text);
    assert_eq!(page.status, 413);
    assert!(page.text().contains("The text is too long: it has 1.1 MB"), "no reason is given");
    assert!(page.source().contains(&text), "the text is lost");
    assert_eq!(anna.letters("/mail/f/drafts").len(), 0);
    let page = anna.send(&bert.address(), "Library", &"x".repeat(9 << 20));
    assert_eq!(page.status, 413);
    assert!(!page.text().contains("still here"), "{}", page.text());
    assert!(page.text().contains("go back in your browser"), "{}", page.text());
    assert!(page.source().contains("Library"), "the other fields are kept");
}

#[test]
fn files_that_are_too_large_do_not_cost_the_text() {
    let mut anna = Person::new("anna", "f1");
    let bytes = vec![7; 25_000_001];
    let fields = [("to", "x@penn.test"), ("subject", "Big"), ("text", "kept"), ("action", "send")];
    let files = [Upload { field: "file", name: "big.bin", bytes: &bytes }];
    let page = anna.compose("/mail/compose", &fields, &files);
    assert_eq!(page.status, 413, "{}", page.text());
    assert!(page.text().contains("larger than 25 MB"), "{}", page.text());
    assert!(page.source().contains("kept"));
    assert_eq!(anna.letters("/mail/f/drafts").len(), 1);
    let files = [Upload { field: "file", name: "big.bin", bytes: &bytes[1..] }];
    let page = anna.compose("/mail/compose", &fields, &files);
    assert_eq!(page.status, 422, "25 MB are allowed, and x is nobody: {}", page.text());
}

#[test]
fn a_letter_outlives_an_outage() {
    let cluster = Cluster::start_with(|text| text.truncate(text.find("[[smtp]]").unwrap()));
    let mut anna = Person::at(&cluster, "anna", "f1");
    let mut form = anna.get("/mail/compose").form("/mail/compose");
    let address = anna.address();
    let fields = [("to", &*address), ("subject", "Storm"), ("text", "still <here>")];
    fields.iter().for_each(|(name, value)| form.set(name, value));
    form.set("action", "send");
    cluster.backends().iter().for_each(|name| cluster.kill(name));

    let page = anna.get("/mail/f/sent");
    assert_eq!((page.status, page.header("retry-after")), (503, Some("3")));
    assert!(page.text().contains("nothing is lost"), "{}", page.text());
    assert!(!page.text().contains("Sign in"), "the cookie says that somebody is signed in");
    assert_eq!(page.link("Try again"), "/mail/f/sent");
    let page = anna.web.post_multipart("/mail/compose", &form).unwrap();
    assert_eq!(page.status, 503);
    assert!(page.source().contains("still &#60;here&#62;"), "{}", page.source());
    let mut form = page.form("/mail/compose");
    form.set("action", "send");
    cluster.backends().iter().for_each(|name| cluster.start_again(name));
    eventually("the letter is sent from the page that gave it back", || {
        let page = anna.web.post_multipart("/mail/compose", &form).ok()?;
        page.text().contains("Message sent.").then_some(())
    });
    assert_eq!(anna.subjects("/mail"), ["Storm"]);
}

#[test]
fn what_is_sent_until_it_is_sent_arrives_once_whoever_dies() {
    let cut = |text: &mut String| text.truncate(text.find("[[smtp]]").unwrap());
    let cluster = Cluster::start_with(cut);
    let (mut anna, mut bert) =
        (Person::at(&cluster, "anna", "f1"), Person::at(&cluster, "bert", "f2"));
    let victims: Vec<String> =
        ["f1", "f2"].map(String::from).into_iter().chain(cluster.backends()).collect();
    let to = bert.address();
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::SeqCst) && n < 40 {
                anna.send_until_sent(&cluster, &to, &format!("n{n:02}"));
                n += 1;
            }
            n
        });
        for victim in &victims {
            cluster.kill(victim);
            cluster.start_again(victim);
        }
        done.store(true, Ordering::SeqCst);
        sender.join().unwrap()
    });
    assert!(sent > 0);
    let want: Vec<String> = (0..sent).map(|n| format!("n{n:02}")).collect();
    (anna.web.host, bert.web.host) = (cluster.address("f1"), cluster.address("f2"));
    assert_eq!(bert.subjects("/mail"), want);
    assert_eq!(anna.subjects("/mail/f/sent"), want);
    assert_eq!(anna.subjects("/mail/f/drafts"), [""; 0]);
}
