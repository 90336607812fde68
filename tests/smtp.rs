//! Mail from foreign clients, over real sockets into real mailboxes.

use crate::harness::cluster::Shared;
use crate::harness::{Cluster, Smtp, command, eventually, noise, skipped};
use lettre::Transport;
use penncloud::client::{Client, Op};
use penncloud::mail::mailbox::{From, first_cells};
use penncloud::mail::send::new_guid;
use penncloud::mail::{Folder, Held, Mailboxes};
use std::io::Read;
use std::process::Command;

/// Users of a test's own on the shared cluster.
struct Post {
    cluster: Shared,
    mailboxes: Mailboxes,
    client: Client,
}

impl Post {
    fn new() -> Post {
        let cluster = Cluster::shared();
        let client = Client::new(cluster.config()).unwrap();
        Post { mailboxes: Mailboxes::new(client.clone(), cluster.config()), client, cluster }
    }

    /// Makes a user's address.
    fn user(&self, name: &str) -> String {
        let user = format!("{name}-{}", &new_guid()[20..]);
        self.named(&user);
        user
    }

    /// Makes the address of a user of this very name.
    fn named(&self, user: &str) {
        name_user(&self.client, user);
    }

    fn connect(&self) -> Smtp {
        Smtp::connect(&self.cluster.address("s1")).unwrap()
    }

    fn inbox(&self, user: &str) -> Vec<Held> {
        self.mailboxes.list(user, Folder::Inbox, From::Newest).unwrap().messages
    }

    fn subjects(&self, user: &str) -> Vec<String> {
        self.inbox(user).into_iter().map(|held| held.entry.summary.subject).collect()
    }

    /// A message as it lies in the mailbox: the trace lines, and what was sent.
    fn read(&self, user: &str, held: &Held) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut reader = self.mailboxes.open(user, &held.entry.guid).unwrap().unwrap();
        reader.read_to_end(&mut bytes).unwrap();
        let lines = bytes.split_inclusive(|b| *b == b'\n');
        let trace: usize = lines
            .enumerate()
            .take_while(|(i, line)| *i < 2 || line.starts_with(b" "))
            .map(|(_, line)| line.len())
            .sum();
        (String::from_utf8(bytes[..trace].to_vec()).unwrap(), bytes[trace..].to_vec())
    }
}

fn name_user(client: &Client, user: &str) {
    client.write(Op::put(format!("~address/{user}@penn.test"), "user", user)).unwrap();
    client.batch(user, first_cells(user)).unwrap();
}

fn at(user: &str) -> String {
    format!("{user}@penn.test")
}

#[test]
fn a_message_arrives_byte_for_byte_below_our_trace_lines() {
    let post = Post::new();
    let alice = post.user("alice");
    let mut message = b"Subject: bytes\r\n\r\n.\r\n..\r\n. dot\r\n\xff\xfe\x00 \x80\r\n".to_vec();
    message.extend(vec![b'x'; 5000]);
    message.extend(b"\r\n\r\n");
    let reply = post.connect().message("x@y.org", &[&at(&alice)], &message).unwrap();
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let inbox = post.inbox(&alice);
    let (trace, body) = post.read(&alice, &inbox[0]);
    assert_eq!(body, message);
    assert!(
        trace.starts_with("Return-Path: <x@y.org>\r\nReceived: from client.example ([127.0.0.1])"),
        "{trace}"
    );
    assert!(trace.contains(" with ESMTP id ") && trace.contains("by penn.test"), "{trace}");
}

#[test]
fn a_message_of_many_cells_arrives_whole_for_each_of_several_users() {
    let post = Post::new();
    let users = ["alice", "bob", "carol"].map(|name| post.user(name));
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    for line in noise(3, 3_000_000).chunks(700) {
        message.extend(line.iter().map(|b| b'0' + b % 64));
        message.extend(b"\r\n");
    }
    let to: Vec<String> = users.iter().map(|user| at(user)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).chain([to[0].as_str()]).collect();
    let reply = post.connect().message("", &to, &message).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    for user in &users {
        let inbox = post.inbox(user);
        assert_eq!(inbox.len(), 1, "{user} has it once, however often he is named");
        let (trace, body) = post.read(user, &inbox[0]);
        assert!(trace.starts_with("Return-Path: <>\r\n"));
        assert!(body == message, "{user}: {} of {} bytes", body.len(), message.len());
    }
}

#[test]
fn a_repeat_of_the_same_message_is_stored_once() {
    let post = Post::new();
    let alice = post.user("alice");
    let with_id = b"Subject: once\r\nMessage-ID: <1@y.org>\r\n\r\nx\r\n";
    for _ in 0..3 {
        assert!(
            post.connect().message("x@y.org", &[&at(&alice)], with_id).unwrap().starts_with("250 ")
        );
    }
    assert_eq!(post.subjects(&alice), ["once"]);
    for _ in 0..2 {
        let reply =
            post.connect().message("x@y.org", &[&at(&alice)], b"Subject: twice\r\n\r\nx\r\n");
        assert!(reply.unwrap().starts_with("250 "));
    }
    assert_eq!(
        post.subjects(&alice),
        ["twice", "twice", "once"],
        "nothing says that these are one"
    );
}

#[test]
fn a_whole_session_in_one_packet_is_answered_in_order() {
    let post = Post::new();
    let (alice, bob) = (post.user("alice"), post.user("bob"));
    let mut smtp = Smtp::dial(&post.cluster.address("s1")).unwrap();
    let one = |user: &str, n: usize| {
        format!(
            "MAIL FROM:<x@y.org>\r\nRCPT TO:<{}>\r\nRCPT TO:<nobody@penn.test>\r\nDATA\r\nSubject: {n}\r\n\r\n.\r\n",
            at(user)
        )
    };
    smtp.send(format!("EHLO c\r\n{}{}NOOP\r\nQUIT\r\n", one(&alice, 1), one(&bob, 2))).unwrap();
    let expected = [
        "220", "250", "250", "250", "550", "354", "250", "250", "250", "550", "354", "250", "250",
        "221",
    ];
    for code in expected {
        smtp.expect(code).unwrap();
    }
    assert!(smtp.is_closed());
    assert_eq!((post.subjects(&alice), post.subjects(&bob)), (vec!["1".into()], vec!["2".into()]));
}

#[test]
fn a_session_sent_octet_by_octet_is_understood() {
    let post = Post::new();
    let alice = post.user("alice");
    let mut smtp = Smtp::dial(&post.cluster.address("s1")).unwrap();
    let script = format!(
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<{}>\r\nDATA\r\nSubject: slow\r\n\r\n..\r\n.\r\nQUIT\r\n",
        at(&alice)
    );
    for octet in script.bytes() {
        smtp.send([octet]).unwrap();
    }
    for code in ["220", "250", "250", "250", "354", "250", "221"] {
        smtp.expect(code).unwrap();
    }
    assert_eq!(post.subjects(&alice), ["slow"]);
}

#[test]
fn a_smuggled_message_is_not_delivered() {
    let post = Post::new();
    let alice = post.user("alice");
    for end in
        ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\r.\r\n", "\0\n.\r\n"]
    {
        let mut smtp = post.connect();
        smtp.envelope("x@y.org", &[&at(&alice)]).unwrap();
        smtp.say("DATA").unwrap();
        let to = at(&alice);
        let inner = format!(
            "MAIL FROM:<boss@penn.test>\r\nRCPT TO:<{to}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
        );
        smtp.send(format!("Subject: outer\r\n\r\nx{end}{inner}")).unwrap();
        smtp.expect("550 5.5.2").unwrap_or_else(|e| panic!("{end:?}: {e}"));
        assert!(smtp.is_closed(), "{end:?}");
    }
    assert!(post.inbox(&alice).is_empty(), "{:?}", post.subjects(&alice));
}

#[test]
fn no_mail_is_relayed_and_nobody_unknown_is_served() {
    let post = Post::new();
    let alice = post.user("alice");
    let mut smtp = post.connect();
    smtp.envelope("x@y.org", &[]).unwrap();
    for (to, refusal) in [
        ("x@y.org", "550 5.7.1"),
        ("@penn.test:x@y.org", "550 5.7.1"),
        ("x%y.org@penn.test", "550 5.1.1"),
        ("y.org!x@penn.test", "550 5.1.1"),
        ("\"x@y.org\"@penn.test", "550 5.1.1"),
        ("nobody@penn.test", "550 5.1.1"),
        ("x@127.0.0.1", "550 5.7.1"),
        ("~address@penn.test", "550 5.1.1"),
    ] {
        let reply = smtp.say(&format!("RCPT TO:<{to}>")).unwrap();
        assert!(reply.starts_with(refusal), "{to}: {reply}");
    }
    assert!(smtp.say("DATA").unwrap().starts_with("554 "));
    let upper = at(&alice).to_uppercase();
    assert!(smtp.say(&format!("RCPT TO:<{upper}>")).unwrap().starts_with("250 "));
}

#[test]
fn the_postmaster_gets_mail() {
    let post = Post::new();
    let subject = new_guid();
    let message = format!("Subject: {subject}\r\n\r\n");
    let mut early = post.connect();
    for path in ["postmaster", "PostMaster@penn.test"] {
        let put_off = early.message("", &[path], message.as_bytes());
        assert!(format!("{put_off:?}").contains("450 4.3.0 No postmaster"), "{put_off:?}");
        assert!(early.say("RSET").unwrap().starts_with("250"));
    }
    post.named("the-postmaster");
    assert!(
        post.connect()
            .message("", &["postmaster"], message.as_bytes())
            .unwrap()
            .starts_with("250 ")
    );
    assert_eq!(post.subjects("the-postmaster"), [subject]);
}

/// The second server has tight limits: 100,000 octets, 2 recipients, 3 sessions, 3 s of silence. One
/// test, since a session more or less is the point.
#[test]
fn limits_are_said_and_the_server_lives_on() {
    let post = Post::new();
    let (alice, address) = (post.user("alice"), post.cluster.address("s2"));
    let to = at(&alice);
    let mut smtp = Smtp::connect(&address).unwrap();
    assert!(smtp.say("MAIL FROM:<x@y.org> SIZE=100001").unwrap().starts_with("552 5.3.4"));
    let big =
        [b"Subject: big\r\n\r\n".as_slice(), &b"0123456789ABCDEF\r\n".repeat(10_000)].concat();
    assert!(smtp.message("x@y.org", &[&to], &big).unwrap().starts_with("552 5.3.4"));
    assert!(smtp.message("x@y.org", &[&to], b"Subject: fits\r\n\r\n").unwrap().starts_with("250 "));
    smtp.envelope("x@y.org", &[&to, &to]).unwrap();
    assert!(smtp.say(&format!("RCPT TO:<{to}>")).unwrap().starts_with("452 4.5.3"));
    assert!(smtp.say(&"x".repeat(100_000)).unwrap().starts_with("500 5.5.2"));

    let mut others: Vec<Smtp> = (0..2).map(|_| Smtp::connect(&address).unwrap()).collect();
    let mut fourth = Smtp::dial(&address).unwrap();
    fourth.expect("421").unwrap();
    assert!(fourth.is_closed());
    for session in others.iter_mut().chain([&mut smtp]) {
        session.expect("421 4.4.2").unwrap();
        assert!(session.is_closed());
    }
    drop(others);

    let mut endless = eventually("a session is free again", || Smtp::connect(&address).ok());
    endless.envelope("x@y.org", &[&to]).unwrap();
    endless.say("DATA").unwrap();
    while endless.send(b"0123456789ABCDEF\r\n".repeat(1000)).is_ok() {}
    let mut guessing = eventually("a session is free again", || Smtp::connect(&address).ok());
    let last = (0..20).map(|_| guessing.say("RCPT").unwrap()).last().unwrap();
    assert!(last.starts_with("421 4.7.0") && guessing.is_closed(), "{last}");
    assert_eq!(post.subjects(&alice), ["fits"]);
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let post = Post::new();
    let alice = post.user("alice");
    let mut smtp = post.connect();
    smtp.envelope("x@y.org", &[&at(&alice)]).unwrap();
    smtp.say("DATA").unwrap();
    smtp.send(format!("Subject: half\r\n\r\n{}", "x\r\n".repeat(100_000))).unwrap();
    drop(smtp);
    assert!(
        post.connect()
            .message("", &[&at(&alice)], b"Subject: whole\r\n\r\n")
            .unwrap()
            .starts_with("250 ")
    );
    assert_eq!(post.subjects(&alice), ["whole"]);
}

#[test]
fn a_server_that_is_told_to_end_finishes_a_message_first() {
    let cluster = Cluster::start_with(|text| text.truncate(text.find("[[balancer]]").unwrap()));
    let client = Client::new(cluster.config()).unwrap();
    name_user(&client, "alice");
    let [mut busy, mut idle] = [(), ()].map(|()| Smtp::connect(&cluster.address("s1")).unwrap());
    busy.envelope("x@y.org", &[&at("alice")]).unwrap();
    busy.say("DATA").unwrap();
    busy.send("Subject: to the end\r\n").unwrap();
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| cluster.stop("s1"));
        eventually("sessions are told", || {
            idle.say("NOOP").is_ok_and(|r| r.starts_with("421 4.3.2")).then_some(())
        });
        busy.send("\r\n.\r\n").unwrap();
        busy.expect("250").unwrap();
        assert!(stopped.join().unwrap(), "it ends with success");
    });
    let mailboxes = Mailboxes::new(client, cluster.config());
    let page = mailboxes.list("alice", Folder::Inbox, From::Newest).unwrap();
    assert_eq!(page.messages[0].entry.summary.subject, "to the end");
}

#[test]
fn lettre_delivers() {
    let post = Post::new();
    let alice = post.user("alice");
    let message = lettre::Message::builder()
        .from("Zoë <zoe@y.org>".parse().unwrap())
        .to(at(&alice).parse().unwrap())
        .subject("Grüße from lettre")
        .body("Hällo\n.\nbye".to_string())
        .unwrap();
    let address = post.cluster.address("s1");
    let (host, port) = address.split_once(':').unwrap();
    let transport =
        lettre::SmtpTransport::builder_dangerous(host).port(port.parse().unwrap()).build();
    transport.send(&message).unwrap();
    assert_eq!(post.subjects(&alice), ["Grüße from lettre"]);
}

#[test]
fn swaks_delivers() {
    let Some(swaks) = command("swaks") else {
        return skipped("swaks delivers", "there is no swaks (Debian package swaks)");
    };
    let post = Post::new();
    let alice = post.user("alice");
    let run = |arguments: &[&str]| {
        let mut swaks = Command::new(&swaks);
        swaks.args(["--server", &post.cluster.address("s1"), "--from", "x@y.org"]).args(arguments);
        let output = swaks.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    };
    let (done, text) =
        run(&["--to", &at(&alice), "--header", "Subject: from swaks", "--body", "."]);
    assert!(done, "{text}");
    let (done, text) = run(&["--to", &at(&alice), "--header", "Subject: piped", "--pipeline"]);
    assert!(done, "{text}");
    let (done, text) = run(&["--to", "somebody@elsewhere.org"]);
    assert!(!done && text.contains("550 5.7.1"), "{text}");
    assert_eq!(post.subjects(&alice), ["piped", "from swaks"]);
}
