//! The queue of real processes: what leaves arrives once, and who cannot be reached is told of once.

use crate::harness::dns::Record::{A, Mx, Silent};
use crate::harness::remote::Manners;
use crate::harness::{Cluster, Dns, Remote, Smtp, Web, eventually};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use penncloud::client::{Client, Op};
use penncloud::mail::mailbox::{From, first_cells};
use penncloud::mail::queue::{
    Enqueued, Entry, Envelope, Found, Identity, Order, Recipient, SHARDS, State,
};
use penncloud::mail::send::new_guid;
use penncloud::mail::{Address, Folder, Mailboxes, Queue};
use std::net::Ipv4Addr;

const MINUTE_MS: u64 = 1000;
const LIFE_MS: u64 = 600_000;

/// A cluster, and a small world around it: `good.test` takes all, `picky.test` nobody, `slow.test` hangs at DATA until
/// it is told otherwise, `null.test` takes no mail, `lost.test` is known to nobody who answers.
struct World {
    cluster: Cluster,
    client: Client,
    queue: Queue,
    good: Remote,
    slow: Remote,
    _picky: Remote,
}

const NOBODY: Manners = &[("RCPT1", "550 5.1.1 nobody"), ("RCPT2", "550 5.1.1 nobody")];

impl World {
    fn start() -> World {
        let good = Remote::start_at("127.0.0.2:0", &[("EHLO", "250-good\n250 PIPELINING")]);
        let port = good.address.port();
        let picky = Remote::start_at(&format!("127.0.0.3:{port}"), NOBODY);
        let slow = Remote::start_at(&format!("127.0.0.4:{port}"), &[("DATA", "@hang")]);
        let at = |n| A(Ipv4Addr::new(127, 0, 0, n));
        let dns = Dns::start(&[
            ("good.test", &[Mx(5, "mx.good.test"), Mx(9, "penn.test")]),
            ("mx.good.test", &[at(2)]),
            ("picky.test", &[at(3)]),
            ("slow.test", &[at(4)]),
            ("null.test", &[Mx(0, "")]),
            ("lost.test", &[Silent]),
        ]);
        let cluster = Cluster::start_with(|text| {
            let relay = format!(
                "route = \"mx\"\ndns = \"{}\"\nport = {port}\nloopback = true\npoll_ms = 100\n\
                 lease_ms = 2000\npatience_ms = 20000\nminute_ms = {MINUTE_MS}\n",
                dns.address
            );
            for route in ["none", "mx"] {
                *text = text.replace(&format!("route = \"{route}\"\nworkers = 0\n"), &relay);
            }
        });
        let client = Client::new(cluster.config()).unwrap();
        let queue = Queue::new(Mailboxes::new(client.clone(), cluster.config()));
        World { cluster, client, queue, good, slow, _picky: picky }
    }

    fn user(&self, name: &str) -> Address {
        self.client.write(Op::put(format!("~address/{name}@penn.test"), "user", name)).unwrap();
        self.client.batch(name, first_cells(name)).unwrap();
        address(&format!("{name}@penn.test"))
    }

    fn enqueue(&self, from: &Address, to: &[&str], message: &str) -> Enqueued {
        let recipients = to.iter().map(|to| Recipient::new(address(to))).collect();
        let envelope = Envelope { sender: Some(from.clone()), recipients, ..Envelope::default() };
        let mut incoming = self.queue.incoming(envelope, Identity::OfMessage, 1 << 20).unwrap();
        incoming.trace("Received: from a test\r\n").unwrap();
        incoming.add(message.as_bytes()).unwrap();
        incoming.enqueue(0, LIFE_MS).unwrap()
    }

    fn entries(&self) -> Vec<Found> {
        let shard = |shard| self.queue.list(shard, None, 100).unwrap_or_default().0;
        (0..SHARDS).flat_map(shard).collect()
    }

    fn entry(&self, guid: &str) -> Option<Entry> {
        self.entries().into_iter().map(|found| found.entry).find(|entry| entry.guid == guid)
    }

    fn wait_gone(&self, guid: &str) {
        eventually("the message has left the queue", || self.entry(guid).is_none().then_some(()));
    }

    fn inbox(&self, user: &str) -> Vec<String> {
        let page = self.queue.mailboxes().list(user, Folder::Inbox, From::Newest).unwrap();
        let text = |guid: &str| self.queue.mailboxes().read(user, guid).unwrap().unwrap().bytes;
        let all = page.messages.iter().map(|held| text(&held.entry.guid));
        all.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn message(id: &str) -> String {
    format!("Message-ID: <{id}@penn.test>\r\nFrom: a@penn.test\r\nSubject: {id}\r\n\r\n.text\r\n")
}

fn guid(enqueued: Enqueued) -> String {
    match enqueued {
        Enqueued::Stored(guid) => guid,
        other => panic!("{other:?}"),
    }
}

/// One cluster for all: each part leaves the queue empty.
#[test]
fn what_leaves_arrives_once_and_what_cannot_is_told_once() {
    let world = World::start();
    a_composed_message_reaches_both_worlds(&world);
    a_submitted_message_reaches_both_worlds_once(&world);
    failures_are_told_once(&world);
    what_waits_is_held_released_and_deleted(&world);
    a_killed_worker_is_replaced(&world);
}

/// By the composer's mail program, twice: it lost our answer.
fn a_submitted_message_reaches_both_worlds_once(world: &World) {
    let text = "From: composer@penn.test\r\nMessage-ID: <once@penn.test>\r\n\r\nby a program\r\n";
    let before = world.good.received().len();
    for _ in 0..2 {
        let mut smtp = Smtp::connect_tls(&world.cluster.config().smtps[0].submissions).unwrap();
        let said = STANDARD.encode("\0composer\0correct horse battery");
        assert!(smtp.say(&format!("AUTH PLAIN {said}")).unwrap().starts_with("235 "));
        let to = ["friend@good.test", "local@penn.test"];
        let reply = smtp.message("composer@penn.test", &to, text.as_bytes()).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
    }
    eventually("the queue is empty", || world.entries().is_empty().then_some(()));
    let received = world.good.received();
    assert_eq!(received.len(), before + 1);
    assert!(received[before].message.contains("by a program"));
    let inbox = world.inbox("local");
    let copies: Vec<_> = inbox.iter().filter(|text| text.contains("by a program")).collect();
    assert_eq!(copies.len(), 1, "{inbox:?}");
    assert!(copies[0].starts_with("Return-Path: <composer@penn.test>\r\n"), "{}", copies[0]);
}

fn a_composed_message_reaches_both_worlds(world: &World) {
    let mut web = Web::new(&world.cluster.address("f1"));
    let account = [("username", "composer"), ("password", "correct horse battery")];
    web.submit("/signup", "/signup", &account, &[]).unwrap();
    let local = world.user("local");
    let to = format!("{local}, friend@good.test, x@null.test");
    let fields =
        [("to", to.as_str()), ("subject", "outward"), ("text", "hello"), ("action", "send")];
    let page = web.submit("/mail/compose", "/mail/compose", &fields, &[]).unwrap();
    assert_eq!(page.path, "/mail", "{}", page.text());
    let received = eventually("the other host has it", || world.good.received().pop());
    assert_eq!(received.mail, "MAIL FROM:<composer@penn.test>");
    assert_eq!(received.recipients, ["RCPT TO:<friend@good.test>"]);
    assert!(received.message.contains("hello") && received.message.starts_with("Received: "));
    assert_eq!(world.inbox("local").len(), 1);
    eventually("Sent shows both", || {
        let sent = web.get("/mail/f/sent").ok()?;
        let link = sent.source().split("/mail/m/sent/").nth(1)?.split('"').next()?.to_string();
        let text = web.get(&format!("/mail/m/sent/{link}")).ok()?.text();
        (text.contains("taken by mx.good.test") && text.contains("5.1.10")).then_some(())
    });
    let bounce = eventually("a bounce", || world.inbox("composer").pop());
    assert!(bounce.contains("Final-Recipient: rfc822; x@null.test\r\n"), "{bounce}");
}

fn failures_are_told_once(world: &World) {
    let sender = world.user("sender");
    let to = ["a@picky.test", "b@nowhere.test", "c@good.test"];
    let guid = guid(world.enqueue(&sender, &to, &message("f1")));
    assert!(matches!(world.enqueue(&sender, &to, &message("f1")), Enqueued::AlreadyThere(_)));
    world.wait_gone(&guid);
    let told = world.inbox("sender");
    assert_eq!(told.len(), 1, "{told:?}");
    for line in ["Status: 5.1.1\r\n", "Status: 5.1.2\r\n", "Return-Path: <>\r\n", "Subject: f1\r\n"]
    {
        assert!(told[0].contains(line), "{line} is not in {}", told[0]);
    }
    assert!(!told[0].contains("c@good.test") && !told[0].contains(".text"));
    let copies = world.good.received().iter().filter(|r| r.message.contains("<f1@")).count();
    assert_eq!(copies, 1);
}

fn what_waits_is_held_released_and_deleted(world: &World) {
    let sender = world.user("waiter");
    let guid = guid(world.enqueue(&sender, &["x@lost.test"], &message("w1")));
    let waits = |entry: &Entry| matches!(entry.recipients[0].state, State::Deferred(_));
    let entry = eventually("it was tried", || world.entry(&guid).filter(waits));
    assert_eq!(entry.recipients[0].answer.as_ref().unwrap().status, "4.4.3");
    let order = |order| {
        eventually("the order is followed", || {
            let found = world.entries().into_iter().find(|found| found.entry.guid == guid)?;
            world.queue.order(&found.place, order).ok()
        });
    };
    order(Order::Hold);
    let tries = world.entry(&guid).unwrap().tries;
    order(Order::Release);
    eventually("it is tried again", || world.entry(&guid).filter(|entry| entry.tries > tries));
    let mut web = Web::new(&world.cluster.address("console"));
    let password = world.cluster.config().secrets().unwrap().admin_password;
    let login = [("username", "admin"), ("password", password.as_str())];
    web.submit("/login", "/login", &login, &[]).unwrap();
    let shown = web.get("/queue").unwrap().text();
    assert!(shown.contains("x@lost.test") && shown.contains("4.4.3"), "{shown}");
    eventually("the operator deletes it", || {
        let page = web.submit("/queue", "/queue", &[("order", "delete")], &[]).ok()?;
        (page.status == 200).then_some(())
    });
    assert!(web.get("/audit").unwrap().text().contains("delete message"));
    assert!(world.entry(&guid).is_none() && world.inbox("waiter").is_empty());
}

/// The node that holds the lease dies while a host is silent; the other finishes, and nobody gets anything twice.
fn a_killed_worker_is_replaced(world: &World) {
    let sender = world.user("mourner");
    let bob = world.user("bob");
    let to = [&bob.to_string(), "x@slow.test"];
    let guid = guid(world.enqueue(&sender, &to, &message(&format!("k{}", new_guid()))));
    eventually("the host hangs", || (world.slow.connections() > 0).then_some(()));
    let lease = world.entry(&guid).unwrap().lease.expect("somebody sends it");
    world.cluster.kill(&lease.node);
    world.slow.behave(&[]);
    world.wait_gone(&guid);
    assert_eq!(world.slow.received().len(), 1);
    assert_eq!(world.inbox("bob").len(), 1, "exactly once");
    assert!(world.inbox("mourner").is_empty());
}
