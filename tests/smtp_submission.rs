//! Our users' own mail: who they are, by which of the listeners, and what becomes of it.

use crate::harness::{Cluster, Smtp, command, eventually, long, skipped};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use penncloud::account::{Accounts, Device, LogIn, Made, SignUp};
use penncloud::client::{Client, Op};
use penncloud::drive;
use penncloud::mail::mailbox::{From, first_cells};
use penncloud::mail::queue::{Entry, SHARDS};
use penncloud::mail::send::new_guid;
use penncloud::mail::{Folder, Mailboxes, Queue};
use penncloud::tools::cert;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::ops::Deref;
use std::process::Command;

const PASSWORD: &str = "correct horse battery";

/// A cluster, seen by its users.
struct House {
    cluster: Box<dyn Deref<Target = Cluster>>,
    accounts: Accounts,
    mailboxes: Mailboxes,
    client: Client,
}

impl House {
    /// The one that tests share.
    fn new() -> House {
        House::on(Box::new(Cluster::shared()))
    }

    fn on(cluster: Box<dyn Deref<Target = Cluster>>) -> House {
        let config = cluster.config();
        let client = Client::new(config).unwrap();
        House {
            accounts: Accounts::new(client.clone(), &config.cluster, &config.accounts),
            mailboxes: Mailboxes::new(client.clone(), config),
            client,
            cluster,
        }
    }

    /// Makes an account.
    fn user(&self, name: &str) -> String {
        let user = format!("{name}-{}", &new_guid()[20..]);
        let mut cells = drive::first_cells(&user);
        cells.extend(first_cells(&user));
        let made = self.accounts.sign_up(&user, PASSWORD, None, cells).unwrap();
        assert_eq!(made, SignUp::Done);
        user
    }

    fn submission(&self) -> &str {
        &self.cluster.config().smtps[0].submission
    }

    fn submissions(&self) -> &str {
        &self.cluster.config().smtps[0].submissions
    }

    /// A session of somebody who has proved who they are.
    fn submitter(&self, user: &str) -> Smtp {
        let mut smtp = Smtp::connect_tls(self.submissions()).unwrap();
        let reply = smtp.say(&format!("AUTH PLAIN {}", plain("", user, PASSWORD))).unwrap();
        assert!(reply.starts_with("235 2.7.0"), "{reply}");
        smtp
    }

    /// The messages in an inbox, whole, the newest first.
    fn inbox(&self, user: &str) -> Vec<String> {
        let page = self.mailboxes.list(user, Folder::Inbox, From::Newest).unwrap();
        let read = |guid: &str| {
            let mut text = String::new();
            let mut reader = self.mailboxes.open(user, guid).unwrap().unwrap();
            reader.read_to_string(&mut text).unwrap();
            text
        };
        page.messages.iter().map(|held| read(&held.entry.guid)).collect()
    }

    /// What waits in the queue from a user.
    fn queued(&self, user: &str) -> Vec<Entry> {
        let queue = Queue::new(self.mailboxes.clone());
        let of_shard = |shard| queue.list(shard, None, 100).unwrap().0;
        let all = (0..SHARDS).flat_map(of_shard).map(|found| found.entry);
        all.filter(|e| e.sender.as_ref().is_some_and(|s| s.local() == user)).collect()
    }
}

fn at(user: &str) -> String {
    format!("{user}@penn.test")
}

fn plain(identity: &str, user: &str, password: &str) -> String {
    STANDARD.encode(format!("{identity}\0{user}\0{password}"))
}

#[test]
fn a_users_own_mail_arrives_with_what_it_lacked() {
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let message = format!("From: Alice <{}>\r\nSubject: bare\r\n\r\nbody\r\n", at(&alice));
    let mut smtp = house.submitter(&alice);
    let reply = smtp.message(&at(&alice), &[&at(&bob)], message.as_bytes()).unwrap();
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let text = house.inbox(&bob).remove(0);
    let head = format!("Return-Path: <{}>\r\nReceived: from client.example ", at(&alice));
    assert!(text.starts_with(&head), "{text}");
    assert!(text.contains(" with ESMTPSA id "), "{text}");
    assert!(text.contains(&format!("\r\n for <{}>;\r\n", at(&bob))), "{text}");
    assert!(text.contains("\r\nDate: ") && text.contains("\r\nMessage-ID: <"), "{text}");
    assert!(text.ends_with(&message), "{text}");
    let whole = format!("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nmessage-id: <1@x>\r\n{message}");
    let to = [at(&bob), at(&alice)];
    let reply = smtp.message(&at(&alice), &to.each_ref().map(String::as_str), whole.as_bytes());
    assert!(reply.unwrap().starts_with("250 "));
    let text = house.inbox(&bob).remove(0);
    assert_eq!(text.to_lowercase().matches("\r\nmessage-id:").count(), 1, "{text}");
    assert_eq!(text.matches("\r\nDate:").count(), 1, "{text}");
    assert!(!text.contains(" for <"), "of several recipients none learns of the others: {text}");
}

#[test]
fn mail_for_elsewhere_is_in_the_queue_once_when_it_is_acknowledged() {
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let message = format!("From: {}\r\nMessage-ID: <{}@x>\r\n\r\nout\r\n", at(&alice), new_guid());
    for _ in 0..2 {
        let mut smtp = house.submitter(&alice);
        let mail = format!("MAIL FROM:<{}> RET=FULL ENVID=E+2B1", at(&alice));
        let rcpt = "RCPT TO:<x@elsewhere.test> NOTIFY=SUCCESS ORCPT=rfc822;x@e.test";
        for (line, code) in [
            (mail.as_str(), "250 2.1.0"),
            (rcpt, "250 2.1.5"),
            (&format!("RCPT TO:<{}>", at(&bob)), "250 2.1.5"),
            ("RCPT TO:<nobody@penn.test>", "550 5.1.1"),
            ("DATA", "354"),
            (&format!("{message}."), "250 2.0.0"),
        ] {
            let reply = smtp.say(line).unwrap();
            assert!(reply.starts_with(code), "{line}: {reply}");
        }
    }
    let queued = house.queued(&alice);
    assert_eq!(queued.len(), 1, "{queued:?}");
    let to: Vec<String> = queued[0].recipients.iter().map(|r| r.address.to_string()).collect();
    assert_eq!(to, ["x@elsewhere.test".to_string(), at(&bob)]);
    let (first, options) = (&queued[0].recipients[0], &queued[0].options);
    assert!(first.notify.success && !first.notify.failure);
    assert_eq!(first.original.as_deref(), Some("rfc822;x@e.test"));
    assert_eq!(options.envelope_id.as_deref(), Some("E+2B1"));
}

#[test]
fn nobody_writes_as_somebody_else() {
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let mut smtp = house.submitter(&alice);
    for from in [at(&bob), format!("{alice}@elsewhere.test"), at("nobody")] {
        let reply = smtp.say(&format!("MAIL FROM:<{from}>")).unwrap();
        assert!(reply.starts_with("553 5.7.1"), "{from}: {reply}");
    }
    let (own, other) = (at(&alice), at(&bob));
    for from in [
        format!("From: {other}"),
        format!("From: {own}, {other}"),
        format!("From : {other}"),
        format!("From: {own}\r\nFrom: {other}"),
        format!("from:\r\n <{other}>"),
        format!("From: {own}{}, {other}", " ".repeat(5000)),
        format!("From: {own} {other}"),
        "Subject: nobody".into(),
    ] {
        let message = format!("{from}\r\n\r\nx\r\n");
        let reply = smtp.message(&own, &[&other], message.as_bytes()).unwrap();
        assert!(reply.starts_with("550 5."), "{from}: {reply}");
    }
    let long = format!("From: {own}\r\nX: {}\r\n\r\n", "x".repeat(120 << 10));
    let reply = smtp.message(&own, &[&other], long.as_bytes()).unwrap();
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    assert!(house.inbox(&bob).is_empty());
}

#[test]
fn what_was_sent_before_the_handshake_is_forgotten() {
    let house = House::new();
    let alice = house.user("alice");
    for address in [house.cluster.address("s1"), house.submission().to_string()] {
        let mut smtp = Smtp::connect(&address).unwrap();
        let injected = format!("MAIL FROM:<x@evil.test>\r\nRCPT TO:<{}>\r\n", at(&alice));
        smtp.send(format!("STARTTLS\r\n{injected}")).unwrap();
        smtp.expect("220").unwrap();
        let mut smtp = smtp.secured().unwrap();
        assert!(smtp.say("RSET").unwrap().starts_with("250 2.0.0"), "nothing else was answered");
        assert!(smtp.say("DATA").unwrap().starts_with("503 "));
        let offers = smtp.say("EHLO client.example").unwrap();
        assert!(!offers.contains("STARTTLS"), "{offers}");
        assert!(smtp.say("STARTTLS").unwrap().starts_with("503 "));
    }
    let mut smtp = Smtp::connect(&house.cluster.address("s1")).unwrap();
    smtp.say("STARTTLS").unwrap();
    let mut smtp = smtp.secured().unwrap();
    smtp.say("EHLO client.example").unwrap();
    let reply = smtp.message("x@y.org", &[&at(&alice)], b"Subject: safe\r\n\r\n").unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(house.inbox(&alice)[0].contains(" with ESMTPS id "));
}

#[test]
fn a_large_message_arrives_whole_in_chunks_and_under_tls() {
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let head = format!("From: {}\r\nSubject: large\r\n\r\n", at(&alice));
    let body = ".0123456789 0123456789 0123456789\r\n".repeat(60_000);
    let message = format!("{head}{body}");
    let mut smtp = house.submitter(&alice);
    smtp.envelope(&at(&alice), &[&at(&bob)]).unwrap();
    let pieces: Vec<&[u8]> = message.as_bytes().chunks(300_001).collect();
    for (i, piece) in pieces.iter().enumerate() {
        let last = if i + 1 == pieces.len() { " LAST" } else { "" };
        smtp.send(format!("BDAT {}{last}\r\n", piece.len())).unwrap();
        smtp.send(piece).unwrap();
    }
    pieces.iter().for_each(|_| drop(smtp.expect("250 2.0.0").unwrap()));
    let reply = smtp.message(&at(&alice), &[&at(&bob)], message.as_bytes()).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    let inbox = house.inbox(&bob);
    assert_eq!(inbox.len(), 2);
    assert!(inbox.iter().all(|text| text.ends_with(&message)));
}

#[test]
fn a_renewed_certificate_is_shown_after_sighup() {
    let house = House::new();
    let first = Smtp::connect_tls(house.submissions()).unwrap().certificate();
    let smtp = &house.cluster.config().smtps[0];
    let dir = tempfile::tempdir().unwrap();
    let made = cert::run(dir.path(), &["penn.test".into()]).unwrap();
    std::fs::copy(made.key, &smtp.tls_key).unwrap();
    std::fs::copy(made.certificate, &smtp.tls_cert).unwrap();
    let pid = Pid::from_raw(house.cluster.pid("s1").cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let now = eventually("the new one is shown", || {
        let shown = Smtp::connect_tls(house.submissions()).ok()?.certificate();
        (shown != first).then_some(shown)
    });
    let mut starttls = Smtp::connect(house.submission()).unwrap();
    assert!(starttls.say("STARTTLS").unwrap().starts_with("220 "));
    assert_eq!(starttls.secured().unwrap().certificate(), now);
}

/// Most memory that a process has had, in KiB.
fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_message_of_the_largest_size_takes_the_memory_of_a_cell() {
    if !long() {
        return;
    }
    let house = House::on(Box::new(Box::new(Cluster::start())));
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let mut smtp = house.submitter(&alice);
    smtp.envelope(&at(&alice), &[&at(&bob), "x@elsewhere.test"]).unwrap();
    let before = peak_of(house.cluster.pid("s1"));
    let head = format!("From: {}\r\n\r\n", at(&alice));
    let chunk = "0123456789 0123456789 0123456789\r\n".repeat(200_000);
    smtp.send(format!("BDAT {}\r\n{head}", head.len())).unwrap();
    for i in 0..7 {
        let last = if i == 6 { " LAST" } else { "" };
        smtp.send(format!("BDAT {}{last}\r\n{chunk}", chunk.len())).unwrap();
    }
    (0..8).for_each(|_| drop(smtp.expect("250 2.0.0").unwrap()));
    let grown = peak_of(house.cluster.pid("s1")) - before;
    assert!(grown < 24 << 10, "{grown} KiB more for 45 MiB");
}

#[test]
fn a_wrong_password_tells_nothing_and_guessing_is_slow() {
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let mut smtp = Smtp::connect_tls(house.submissions()).unwrap();
    let (wrong, nobody) = (plain("", &alice, "wrong"), plain("", &new_guid(), "wrong"));
    let forged = plain(&bob, &alice, PASSWORD);
    let replies =
        [wrong, nobody, forged].map(|said| smtp.say(&format!("AUTH PLAIN {said}")).unwrap());
    assert!(replies[0].starts_with("535 5.7.8"), "{replies:?}");
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    let wrong = format!("AUTH PLAIN {}", plain("", &alice, "wrong again"));
    let last = [(); 2].map(|()| smtp.say(&wrong).unwrap())[1].clone();
    assert!(last.starts_with("421 4.7.0") && smtp.is_closed(), "{last}");
    let mut smtp = Smtp::connect_tls(house.submissions()).unwrap();
    let tries: Vec<String> = (0..4).map(|_| smtp.say(&wrong).unwrap()).collect();
    assert!(tries[3].starts_with("454 4.7.0"), "{tries:?}");
    let right = smtp.say(&format!("AUTH PLAIN {}", plain("", &alice, PASSWORD))).unwrap();
    assert!(right.starts_with("454 4.7.0"), "a right password waits as well: {right}");
    let mut other = house.submitter(&bob);
    assert!(other.say("NOOP").unwrap().starts_with("250 "), "nobody else does");
}

#[test]
fn passwords_for_programs_sign_in_at_smtp_alone_and_end_with_the_password() {
    let house = House::new();
    let alice = house.user("alice");
    let make = |label: &str| match house.accounts.make_program(&alice, PASSWORD, label).unwrap() {
        LogIn::Welcome(Made::Password(made)) => made,
        other => panic!("{other:?}"),
    };
    let (phone, laptop) = (make("Phone"), make("Laptop"));
    let comes_in = |password: &str| {
        let mut smtp = Smtp::connect_tls(house.submissions()).unwrap();
        let said = plain("", &at(&alice), password);
        smtp.say(&format!("AUTH PLAIN {said}")).unwrap().starts_with("235 ")
    };
    assert!(comes_in(&phone) && comes_in(&laptop.to_uppercase()) && comes_in(PASSWORD));
    assert!(!comes_in(&phone.replace(&phone[6..8], "00")) || &phone[6..8] == "00");
    let device = Device { agent: String::new(), address: String::new() };
    let web = house.accounts.log_in(&alice, &phone, &device).unwrap();
    assert!(matches!(web, LogIn::Wrong), "not at the web");
    assert!(matches!(house.accounts.make_program(&alice, &phone, "x"), Ok(LogIn::Wrong)));
    let programs = house.accounts.programs(&alice).unwrap();
    assert!(programs.iter().all(|p| p.last_used > 0 && p.address == "127.0.0.1"), "{programs:?}");
    let id = programs.iter().find(|p| p.label == "Phone").unwrap().id.clone();
    house.accounts.end_program(&alice, &id).unwrap();
    assert!(!comes_in(&phone) && comes_in(&laptop));
    let LogIn::Welcome(session) = house.accounts.log_in(&alice, PASSWORD, &device).unwrap() else {
        panic!("the password fits")
    };
    let new = "another password of alice";
    house.accounts.change_password(&session.session, PASSWORD, new).unwrap();
    assert!(!comes_in(&laptop) && comes_in(new));
    let row = house.client.get(alice.as_str(), format!("apppass/{id}"), 4096).unwrap();
    assert!(row.is_none() && house.accounts.programs(&alice).unwrap().is_empty());
}

#[test]
fn an_address_is_whose_the_store_says() {
    let house = House::new();
    let alice = house.user("alice");
    let other = house.user("other");
    house
        .client
        .write(Op::put(format!("~address/{other}@penn.test"), "user", alice.as_str()))
        .unwrap();
    let mut smtp = house.submitter(&alice);
    let from = at(&other);
    let message = format!("From: {from}\r\n\r\n");
    let reply = smtp.message(&from, &[&at(&alice)], message.as_bytes()).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    let mut smtp = house.submitter(&other);
    assert!(smtp.say(&format!("MAIL FROM:<{from}>")).unwrap().starts_with("553 5.7.1"));
}

#[test]
fn swaks_submits_in_all_its_ways() {
    let Some(swaks) = command("swaks") else {
        return skipped("swaks submits", "there is no swaks (Debian package swaks)");
    };
    let support = Command::new(&swaks).arg("--support").output().unwrap();
    if !String::from_utf8_lossy(&support.stdout).contains("=== TLS supported") {
        return skipped("swaks submits", "swaks has no TLS (Debian package libnet-ssleay-perl)");
    }
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let run = |server: &str, arguments: &[&str], password: &str| {
        let mut swaks = Command::new(&swaks);
        swaks.args(["--server", server, "--from", &at(&alice), "--to", &at(&bob)]);
        swaks.args(["--auth-user", &at(&alice), "--auth-password", password]).args(arguments);
        let output = swaks.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (clear, secure) = (house.submission(), house.submissions());
    let ways: [(&str, &[&str]); 4] = [
        (clear, &["--tls", "--auth", "PLAIN"]),
        (clear, &["--tls", "--auth", "LOGIN", "--pipeline"]),
        (secure, &["--tls-on-connect", "--auth", "PLAIN", "--pipeline"]),
        (secure, &["--tls-on-connect", "--auth", "LOGIN"]),
    ];
    for (server, arguments) in ways {
        let (done, text) = run(server, arguments, PASSWORD);
        assert!(done, "{arguments:?}: {text}");
    }
    let (done, text) = run(clear, &["--auth", "PLAIN"], PASSWORD);
    assert!(!done && !text.contains("AUTH PLAIN"), "no password goes in the clear: {text}");
    let (done, text) = run(secure, &["--tls-on-connect", "--auth", "PLAIN"], "wrong one");
    assert!(!done && text.contains("535 5.7.8"), "{text}");
    assert_eq!(house.inbox(&bob).len(), ways.len());
}

/// What Python's library, which is another implementation, makes of us.
const JUDGE: &str = r#"
import smtplib, ssl, sys
clear, secure, user, to, password = sys.argv[1:]
port = lambda address: int(address.rsplit(":", 1)[1])
any = ssl._create_unverified_context()
message = f"From: {user}\r\nTo: {to}\r\nSubject: from Python\r\n\r\n.dot\r\n"
with smtplib.SMTP("127.0.0.1", port(clear)) as smtp:
    smtp.ehlo()
    assert smtp.has_extn("starttls") and not smtp.has_extn("auth")
    smtp.starttls(context=any)
    smtp.ehlo()
    assert not smtp.has_extn("starttls") and smtp.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    for extension in ["size", "8bitmime", "pipelining", "enhancedstatuscodes", "smtputf8", "chunking"]:
        assert smtp.has_extn(extension), extension
    try:
        smtp.sendmail(user, [to], message)
        raise SystemExit("mail was taken from nobody")
    except smtplib.SMTPSenderRefused as e:
        assert e.smtp_code == 530, e
    smtp.login(user, password)
    assert smtp.sendmail(user, [to], message) == {}
    assert smtp.verify(to)[0] == 252 and smtp.rset()[0] == 250 and smtp.noop()[0] == 250
with smtplib.SMTP_SSL("127.0.0.1", port(secure), context=any) as smtp:
    for wrong in [("x" + user, password), (user, password + "x")]:
        try:
            smtp.login(*wrong)
            raise SystemExit("a wrong password")
        except smtplib.SMTPAuthenticationError as e:
            assert e.smtp_code == 535, e
    smtp.user, smtp.password = user, password
    smtp.ehlo()
    assert smtp.auth("LOGIN", smtp.auth_login)[0] == 235
    refused = smtp.sendmail(user, [to, "nobody@penn.test"], message)
    assert list(refused) == ["nobody@penn.test"] and refused["nobody@penn.test"][0] == 550, refused
"#;

#[test]
fn python_agrees_that_this_is_smtp() {
    let Some(python) = command("python3") else {
        return skipped("Python submits", "there is no python3");
    };
    let house = House::new();
    let (alice, bob) = (house.user("alice"), house.user("bob"));
    let mut judge = Command::new(python);
    judge.args(["-c", JUDGE, house.submission(), house.submissions()]);
    let output = judge.args([at(&alice), at(&bob), PASSWORD.into()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(house.inbox(&bob).len(), 2);
}
