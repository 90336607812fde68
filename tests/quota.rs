//! The quota over a real cluster: what is over it is refused before it is sent, and deleting makes room at once.

use crate::harness::web::{Page, Upload};
use crate::harness::{Cluster, PATIENCE, Smtp, Web, eventually, html, noise};
use penncloud::client::{Client, Scan};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const ROOT: &str = "00000000-0000-0000-0000-000000000000";
/// What everybody here may keep.
const QUOTA: usize = 1_000_000;

/// The cluster that these tests share.
fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    let change = |text: &mut String| {
        text.truncate(text.find("[[balancer]]").unwrap());
        *text = text.replace("[cluster]", &format!("[cluster]\nquota_bytes = {QUOTA}"));
    };
    SHARED.get_or_init(|| Cluster::start_with(change))
}

/// Somebody with an account.
struct Person {
    name: String,
    web: Web,
    store: Client,
}

impl Person {
    fn new() -> Person {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("keeper{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut web = Web::new(&shared().address("f1"));
        let fields = [("username", name.as_str()), ("password", "correct horse battery")];
        assert_eq!(web.submit("/signup", "/signup", &fields, &[]).unwrap().path, "/mail");
        Person { name, web, store: Client::new(shared().config()).unwrap() }
    }

    fn address(&self) -> String {
        format!("{}@penn.test", self.name)
    }

    fn usage(&self) -> usize {
        let found = self.store.get(self.name.as_str(), "usage", 100).unwrap().unwrap();
        String::from_utf8(found.value).unwrap().parse().unwrap()
    }

    /// How many uploads have reserved something.
    fn reservations(&self) -> usize {
        let (row, prefix) = (self.name.clone().into_bytes(), b"reserve/".to_vec());
        self.store.scan(Scan { row, prefix, ..Scan::default() }).unwrap().0.len()
    }

    fn upload(&mut self, name: &str, bytes: &[u8]) -> Page {
        let file = [Upload { field: "file", name, bytes }];
        self.web.submit("/files", &format!("/files/{ROOT}/upload"), &[], &file).unwrap()
    }

    fn delete(&mut self, name: &str) {
        let links = html::links(&self.web.get("/files").unwrap().source());
        let found = links.iter().find(|(path, text)| path.ends_with("/download") && text == name);
        let delete = found.expect("the file is there").0.replace("/download", "/delete");
        assert_eq!(self.web.submit(&delete, &delete, &[], &[]).unwrap().status, 200);
    }

    /// Begins an upload, as a script does: its head, with these fields.
    fn begin(&mut self, fields: &str) -> BufReader<TcpStream> {
        let form = self.web.get("/files").unwrap().form(&format!("/files/{ROOT}/upload"));
        let csrf = &form.fields.iter().find(|(name, _)| name == "csrf").unwrap().1;
        let (host, cookie) = (self.web.host.clone(), self.web.cookie("pc_session").unwrap());
        let head = format!(
            "POST /files/{ROOT}/upload HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
             Cookie: pc_session={cookie}\r\nX-CSRF-Token: {csrf}\r\n\
             Content-Type: multipart/form-data; boundary=B\r\n{fields}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Fills in the compose page and presses a button.
    fn compose(&mut self, to: &str, action: &str) -> Page {
        let fields = [("to", to), ("subject", "S"), ("text", "my words"), ("action", action)];
        self.web.submit("/mail/compose", "/mail/compose", &fields, &[]).unwrap()
    }

    /// Presses Delete for all that a folder shows.
    fn delete_mail(&mut self, folder: &str) {
        let page = self.web.get(folder).unwrap();
        let mut form = page.form("/mail/act");
        let links = html::links(&page.source()).into_iter();
        let places = links.filter_map(|(path, _)| path.strip_prefix("/mail/m/").map(String::from));
        form.fields.extend(places.map(|place| ("place".into(), place)));
        form.fields.push(("action".into(), "delete".into()));
        assert_eq!(self.web.post("/mail/act", &form.fields).unwrap().status, 200);
    }
}

/// A form with one file.
fn form(bytes: &[u8]) -> Vec<u8> {
    let head = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n";
    [head.as_bytes(), bytes, b"\r\n--B--\r\n"].concat()
}

fn length_of(body: &[u8], more: &str) -> String {
    format!("Content-Length: {}{more}", body.len())
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// Sends the last bytes of an upload; the status line of the answer, whose rest follows.
fn end(upload: &mut BufReader<TcpStream>, bytes: &[u8]) -> String {
    upload.get_mut().write_all(bytes).unwrap();
    line(upload)
}

const EXPECT: &str = "\r\nExpect: 100-continue";

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    let mut anna = Person::new();
    let body = form(&noise(1, 1_200_000));
    let mut refused = anna.begin(&length_of(&body, EXPECT));
    assert!(line(&mut refused).starts_with("HTTP/1.1 507 "), "it is not told to go on");
    let mut page = String::new();
    refused.read_to_string(&mut page).unwrap();
    assert!(html::text(&page).contains("0 bytes of your 1.0 MB are in use"), "{page}");
    assert!(html::text(&page).contains("makes room at once"), "{page}");
    let body = form(&noise(2, 900_000));
    let mut taken = anna.begin(&length_of(&body, EXPECT));
    assert_eq!(
        (line(&mut taken).trim_end(), line(&mut taken).trim_end()),
        ("HTTP/1.1 100 Continue", "")
    );
    assert!(end(&mut taken, &body).starts_with("HTTP/1.1 303 "));
    assert_eq!((anna.usage(), anna.reservations()), (900_000, 0));
}

#[test]
fn a_script_is_told_in_json() {
    let mut anna = Person::new();
    let body = form(&noise(1, 1_200_000));
    let accept = length_of(&body, "\r\nAccept: application/json\r\nConnection: close");
    let mut refused = anna.begin(&accept);
    assert!(end(&mut refused, &body).starts_with("HTTP/1.1 507 "));
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"fault\":\"0 bytes of your 1.0 MB are in use"), "{answer}");
}

#[test]
fn an_upload_that_breaks_off_gives_its_room_back() {
    let mut anna = Person::new();
    let body = form(&noise(3, 900_000));
    let mut broken = anna.begin(&length_of(&body, ""));
    broken.get_mut().write_all(&body[..450_000]).unwrap();
    eventually("it has reserved", || (anna.reservations() == 1).then_some(()));
    drop(broken);
    eventually("it has given back", || (anna.reservations() == 0).then_some(()));
    assert_eq!(anna.usage(), 0);
    assert_eq!(anna.upload("whole", &noise(3, 900_000)).status, 200);
}

#[test]
fn two_uploads_that_would_go_over_together_are_not_both_begun() {
    let mut anna = Person::new();
    let body = form(&noise(4, 600_000));
    let mut first = anna.begin(&length_of(&body, ""));
    first.get_mut().write_all(&body[..100_000]).unwrap();
    eventually("it has reserved", || (anna.reservations() == 1).then_some(()));
    let mut second = anna.begin(&length_of(&body, EXPECT));
    assert!(line(&mut second).starts_with("HTTP/1.1 507 "));
    assert!(end(&mut first, &body[100_000..]).starts_with("HTTP/1.1 303 "));
    assert_eq!((anna.usage(), anna.reservations()), (600_000, 0));
}

#[test]
fn an_upload_of_unknown_length_stops_when_it_is_over() {
    let mut anna = Person::new();
    let chunked = |bytes: &[u8]| {
        let body = form(bytes);
        [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
    };
    let mut upload = anna.begin("Transfer-Encoding: chunked");
    assert!(end(&mut upload, &chunked(&noise(5, 1_100_000))).starts_with("HTTP/1.1 507 "));
    assert_eq!((anna.usage(), anna.reservations()), (0, 0));
    let mut upload = anna.begin("Transfer-Encoding: chunked");
    assert!(end(&mut upload, &chunked(&noise(5, 900_000))).starts_with("HTTP/1.1 303 "));
    assert_eq!((anna.usage(), anna.reservations()), (900_000, 0));
}

#[test]
fn deleting_makes_room_at_once() {
    let mut anna = Person::new();
    assert_eq!(anna.upload("first", &noise(6, 700_000)).status, 200);
    let page = anna.upload("second", &noise(7, 400_000));
    assert_eq!(page.status, 507, "{}", page.text());
    assert!(page.text().contains("700 KB of your 1.0 MB are in use"), "{}", page.text());
    anna.delete("first");
    assert_eq!(anna.upload("second", &noise(7, 400_000)).status, 200);
}

#[test]
fn pages_show_how_much_is_in_use() {
    let mut anna = Person::new();
    anna.upload("first", &noise(8, 250_000));
    for path in ["/files", "/settings"] {
        let page = anna.web.get(path).unwrap();
        assert!(page.text().contains("250 KB of 1.0 MB in use"), "{path}: {}", page.text());
        let tags = html::tags(&page.source());
        let meter = tags.iter().find(|tag| tag.name == "meter").expect("a meter");
        assert_eq!((meter.get("value"), meter.get("max")), (Some("250000"), Some("1000000")));
        assert!(meter.get("aria-label").is_some());
    }
}

#[test]
fn who_is_over_the_quota_gets_no_mail_until_something_is_deleted() {
    let mut anna = Person::new();
    let mut smtp = Smtp::connect(&shared().address("s1")).unwrap();
    let to = anna.address();
    let rcpt = format!("RCPT TO:<{to}>");
    let message = format!("Subject: large\r\n\r\n{}\r\n", "x".repeat(600_000));
    let message = message.as_bytes();
    assert!(smtp.message("x@y.org", &[&to], message).unwrap().starts_with("250 "));
    smtp.say("MAIL FROM:<x@y.org> SIZE=600000").unwrap();
    assert!(smtp.say(&rcpt).unwrap().starts_with("452 4.2.2 "), "it would go over");
    smtp.say("RSET").unwrap();
    let reply = smtp.message("x@y.org", &[&to], message).unwrap();
    assert!(reply.starts_with("250 "), "what was accepted is delivered: {reply}");
    assert!(anna.usage() > QUOTA);
    smtp.say("MAIL FROM:<x@y.org>").unwrap();
    assert!(smtp.say(&rcpt).unwrap().starts_with("452 4.2.2 "), "it is over");
    anna.delete_mail("/mail");
    assert!(smtp.say(&rcpt).unwrap().starts_with("452 4.2.2 "), "it lies in Trash");
    anna.delete_mail("/mail/f/trash");
    assert_eq!(anna.usage(), 0);
    assert!(smtp.say(&rcpt).unwrap().starts_with("250 "));
}

#[test]
fn mail_to_somebody_who_is_full_stays_a_draft() {
    let (mut anna, mut bert) = (Person::new(), Person::new());
    assert_eq!(bert.upload("all", &noise(9, QUOTA)).status, 200);
    let both = format!("{}, {}", anna.address(), bert.address());
    let page = anna.compose(&both, "send");
    assert_eq!(page.status, 422);
    let said = format!("{}: this mailbox is full", bert.address());
    assert!(page.text().contains(&said), "{}", page.text());
    assert!(page.text().contains("saved in Drafts"), "{}", page.text());
    bert.delete("all");
    let mut form = page.form("/mail/compose");
    form.fields.push(("action".into(), "send".into()));
    let page = anna.web.post_multipart("/mail/compose", &form).unwrap();
    assert!(page.text().contains("Message sent."), "{}", page.text());
    assert!(bert.web.get("/mail").unwrap().text().contains(&anna.name));
}

#[test]
fn who_has_no_room_to_keep_a_message_cannot_send_it_and_loses_nothing() {
    let (mut anna, bert) = (Person::new(), Person::new());
    assert_eq!(anna.upload("all", &noise(10, QUOTA)).status, 200);
    for action in ["send", "save"] {
        let page = anna.compose(&bert.address(), action);
        assert_eq!(page.status, 507, "{}", page.text());
        assert!(page.text().contains("1.0 MB of your 1.0 MB are in use"), "{}", page.text());
        assert!(page.source().contains("my words"), "what was typed is still there");
    }
    let page = anna.compose(&bert.address(), "discard");
    assert!(page.text().contains("Message deleted."), "{}", page.text());
    anna.delete("all");
    let page = anna.compose(&bert.address(), "send");
    assert!(page.text().contains("Message sent."), "{}", page.text());
}
