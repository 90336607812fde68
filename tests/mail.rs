//! Mailboxes over a real cluster: once, nothing lost, byte for byte, counters right.

use crate::harness::cluster::{Cluster, Shared};
use penncloud::client::{Client, Op, Scan};
use penncloud::error::Error;
use penncloud::mail::address::parse_list;
use penncloud::mail::mailbox::{From, first_cells};
use penncloud::mail::send::new_guid;
use penncloud::mail::{
    Address, Contact, Delivered, Entry, Folder, Held, Mailboxes, Outline, Place, Tally, Typed,
};
use std::collections::BTreeMap;

const MESSAGE_BYTES_MAX: u64 = 50 << 20;

/// Mailboxes of three users of a test's own, on the cluster that all tests share.
struct Post {
    _cluster: Shared,
    client: Client,
    mailboxes: Mailboxes,
    alice: String,
    bob: String,
    carol: String,
}

impl Post {
    fn start() -> Post {
        let cluster = Cluster::shared();
        let client = Client::new(cluster.config()).unwrap();
        let mailboxes = Mailboxes::new(client.clone(), cluster.config());
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| {
            let user = format!("{name}-{}", &new_guid()[20..]);
            let row = format!("~address/{user}@penn.test");
            client.write(Op::put(row, "user", user.as_str())).unwrap();
            client.batch(user.as_str(), first_cells(&user)).unwrap();
            user
        });
        Post { _cluster: cluster, client, mailboxes, alice, bob, carol }
    }

    /// The address of one of the three, or several.
    fn at(&self, users: &[&String]) -> String {
        users.iter().map(|user| format!("{user}@penn.test")).collect::<Vec<_>>().join(", ")
    }

    fn deliver(&self, user: &str, message: &[u8]) -> Delivered {
        let sender = Some(address("stranger@x.org"));
        let users = [user.to_string()];
        let mut incoming = self.mailboxes.incoming(sender, users, MESSAGE_BYTES_MAX).unwrap();
        incoming.trace("Received: from x by y\r\n").unwrap();
        message.chunks(100_000).for_each(|piece| incoming.add(piece).unwrap());
        let mut outcomes = incoming.deliver().unwrap();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0).1.unwrap()
    }

    fn deliver_many(&self, user: &str, n: usize) {
        for n in 0..n {
            assert_eq!(self.deliver(user, &message(&format!("{n}@x"), "x")), Delivered::Stored);
        }
    }

    fn inbox(&self, user: &str) -> Vec<Held> {
        self.folder(user, Folder::Inbox)
    }

    /// All entries of a folder, newest first, page by page.
    fn folder(&self, user: &str, folder: Folder) -> Vec<Held> {
        let mut all: Vec<Held> = Vec::new();
        loop {
            let from = all.last().map_or(From::Newest, |last| From::Before(last.place.number));
            let page = self.mailboxes.list(user, folder, from).unwrap();
            all.extend(page.messages);
            if !page.older {
                return all;
            }
        }
    }

    fn read(&self, user: &str, entry: &Entry) -> Vec<u8> {
        self.mailboxes.read(user, &entry.guid).unwrap().expect("every entry has a body").bytes
    }

    /// What the counters must say.
    fn recount(&self, user: &str) -> BTreeMap<Folder, Tally> {
        let tally = |folder| {
            let entries = self.folder(user, folder);
            let unread = entries.iter().filter(|held| !held.entry.flags.seen).count() as i64;
            let bytes = entries.iter().map(|held| held.entry.size as i64).sum();
            (folder, Tally { total: entries.len() as i64, unread, bytes })
        };
        Folder::ALL.into_iter().map(tally).collect()
    }

    fn assert_counted(&self, user: &str) {
        let recount = self.recount(user);
        assert_eq!(self.mailboxes.folders(user).unwrap(), recount);
        let usage = self
            .client
            .get(user, "usage", 100)
            .unwrap()
            .map_or(0, |found| String::from_utf8(found.value).unwrap().parse::<i64>().unwrap());
        assert_eq!(usage, recount.values().map(|tally| tally.bytes).sum::<i64>());
        let bodies = self.columns(user, "body/");
        assert_eq!(bodies as i64, recount.values().map(|tally| tally.total).sum::<i64>());
    }

    fn columns(&self, user: &str, prefix: &str) -> usize {
        let scan = Scan {
            row: format!("{user}/mail").into_bytes(),
            prefix: prefix.as_bytes().to_vec(),
            limit: 1000,
            ..Scan::default()
        };
        self.client.scan(scan).unwrap().0.len()
    }

    fn draft(&self, user: &str, guid: &str, to: &str, text: &str, file: &[u8]) -> Held {
        let outline = Outline {
            from: Contact::new("", address(&self.at(&[&user.to_string()]))),
            to: parse_list(to).unwrap(),
            cc: Vec::new(),
            subject: "Plans".into(),
            text: text.into(),
            message_id: self.mailboxes.message_id(guid),
            in_reply_to: None,
            references: Vec::new(),
            date: 1_762_174_920,
        };
        let mut draft = self.mailboxes.write_draft(user, guid, outline, typed(to));
        draft.attach("plan.bin", "application/x-plan").unwrap();
        file.chunks(70_000).for_each(|piece| draft.add(piece).unwrap());
        draft.save().unwrap()
    }

    fn send(&self, guid: &str, draft: &Held, to: &str) -> Vec<(Address, Result<Delivered, Error>)> {
        let to = parse_list(to).unwrap();
        let audience = self.mailboxes.audience(&to, &self.alice, guid, draft).unwrap();
        assert!(audience.lost.is_empty(), "{audience:?}");
        let from = address(&self.at(&[&self.alice]));
        self.mailboxes.send(&from, &self.alice, guid, draft, &audience).unwrap()
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn typed(to: &str) -> Typed {
    Typed { to: to.into(), bcc: "Carol <carol@penn.test>, nonsense".into(), ..Typed::default() }
}

fn message(id: &str, text: &str) -> Vec<u8> {
    format!(
        "From: Stranger <stranger@x.org>\r\nMessage-ID: <{id}>\r\nSubject: {id}\r\n\r\n{text}\r\n"
    )
    .into_bytes()
}

#[test]
fn addresses_find_their_user_in_any_case() {
    let post = Post::start();
    let resolve = |text: &str| post.mailboxes.resolve(&address(text)).unwrap();
    let alice = post.at(&[&post.alice]);
    assert_eq!(resolve(&alice).as_ref(), Some(&post.alice));
    assert_eq!(resolve(&alice.to_uppercase()).as_ref(), Some(&post.alice));
    assert_eq!(resolve("nobody@penn.test"), None);
    assert_eq!(resolve(&alice.replace("penn.test", "x.org")), None);
}

#[test]
fn a_message_delivered_twice_is_there_once() {
    let post = Post::start();
    let first = message("1@x", "hello");
    assert_eq!(post.deliver(&post.bob, &first), Delivered::Stored);
    assert_eq!(post.deliver(&post.bob, &first), Delivered::AlreadyThere);
    assert_eq!(post.deliver(&post.bob, &message("1@x", "other text")), Delivered::Stored);
    let nameless = b"Subject: no id\r\n\r\nx\r\n";
    assert_eq!(post.deliver(&post.bob, nameless), Delivered::Stored);
    assert_eq!(post.deliver(&post.bob, nameless), Delivered::Stored);
    assert_eq!(post.inbox(&post.bob).len(), 4);
    post.assert_counted(&post.bob);
}

#[test]
fn sixteen_senders_at_once_lose_nothing() {
    let post = Post::start();
    std::thread::scope(|scope| {
        for sender in 0..16 {
            let post = &post;
            scope.spawn(move || {
                for n in 0..4 {
                    post.deliver(&post.bob, &message(&format!("{sender}.{n}@x"), "hello"));
                }
            });
        }
    });
    let inbox = post.inbox(&post.bob);
    let subjects: std::collections::BTreeSet<_> =
        inbox.iter().map(|held| held.entry.summary.subject.clone()).collect();
    assert_eq!((inbox.len(), subjects.len()), (64, 64));
    assert!(inbox.is_sorted_by(|a, b| a.place.number > b.place.number));
    post.assert_counted(&post.bob);
}

#[test]
fn bodies_are_kept_byte_for_byte() {
    let post = Post::start();
    let bytes: Vec<u8> = (0..=255u8).collect();
    let eight_bit = [message("8bit@x", ""), bytes.clone()].concat();
    let large = [message("large@x", ""), bytes.repeat(10 << 12)].concat();
    for message in [&eight_bit, &large] {
        assert_eq!(post.deliver(&post.bob, message), Delivered::Stored);
        let entry = &post.inbox(&post.bob)[0].entry;
        let stored = post.read(&post.bob, entry);
        let trace = "Return-Path: <stranger@x.org>\r\nReceived: from x by y\r\n";
        assert!(stored == [trace.as_bytes(), message].concat(), "{} bytes", message.len());
        assert_eq!(entry.size, stored.len() as u64);
    }
    assert_eq!(post.deliver(&post.bob, &large), Delivered::AlreadyThere);
    post.assert_counted(&post.bob);
}

#[test]
fn too_large_a_message_leaves_nothing() {
    let post = Post::start();
    let mut incoming = post.mailboxes.incoming(None, [post.bob.clone()], 3 << 20).unwrap();
    incoming.add(&vec![b'x'; 2 << 20]).unwrap();
    assert!(matches!(incoming.add(&vec![b'x'; 2 << 20]), Err(Error::TooBig(_))));
    assert!(matches!(incoming.add(b"x"), Err(Error::TooBig(_))), "it stays refused");
    drop(incoming);
    assert_eq!(post.columns(&post.bob, ""), post.columns(&post.bob, "folder/"));
}

#[test]
fn several_recipients_get_one_message_each() {
    let post = Post::start();
    let users = [&post.bob, &post.carol, &post.bob].map(String::clone);
    let mut incoming = post.mailboxes.incoming(None, users, MESSAGE_BYTES_MAX).unwrap();
    incoming.add(&message("m@x", &"long ".repeat(500_000))).unwrap();
    let outcomes = incoming.deliver().unwrap();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Ok(Delivered::Stored)), "{outcomes:?}");
    let copies = [&post.bob, &post.carol].map(|user| post.read(user, &post.inbox(user)[0].entry));
    assert!(copies[0] == copies[1] && copies[0].starts_with(b"Return-Path: <>\r\n"));
}

#[test]
fn flags_merge_and_count() {
    let post = Post::start();
    post.deliver_many(&post.bob, 3);
    let places: Vec<Place> = post.inbox(&post.bob).iter().map(|held| held.place).collect();
    let mailboxes = &post.mailboxes;
    assert_eq!(mailboxes.change(&post.bob, &places[..2], |flags| flags.seen = true), Ok(2));
    std::thread::scope(|scope| {
        let place = &places[..1];
        scope.spawn(|| mailboxes.change(&post.bob, place, |flags| flags.starred = true).unwrap());
        scope.spawn(|| mailboxes.change(&post.bob, place, |flags| flags.answered = true).unwrap());
    });
    let flags = mailboxes.entry(&post.bob, places[0]).unwrap().unwrap().entry.flags;
    assert!(flags.seen && flags.starred && flags.answered && !flags.forwarded, "{flags:?}");
    assert_eq!(mailboxes.folders(&post.bob).unwrap()[&Folder::Inbox].unread, 1);
    post.assert_counted(&post.bob);
}

#[test]
fn moves_keep_the_message_and_expunging_leaves_nothing() {
    let post = Post::start();
    post.deliver_many(&post.bob, 5);
    let places: Vec<Place> = post.inbox(&post.bob).iter().map(|held| held.place).collect();
    let before = post.inbox(&post.bob)[0].entry.clone();
    assert_eq!(post.mailboxes.move_to(&post.bob, &places[..3], Folder::Trash), Ok(3));
    assert_eq!(post.mailboxes.move_to(&post.bob, &places[..3], Folder::Trash), Ok(0));
    let trash = post.folder(&post.bob, Folder::Trash);
    assert!(trash.iter().any(|held| held.entry == before));
    post.assert_counted(&post.bob);
    let places: Vec<Place> = trash.iter().map(|held| held.place).collect();
    assert_eq!(post.mailboxes.expunge(&post.bob, &places), Ok(3));
    assert!(post.mailboxes.read(&post.bob, &before.guid).unwrap().is_none());
    assert_eq!(post.columns(&post.bob, "body/"), 2);
    post.assert_counted(&post.bob);
}

#[test]
fn pages_go_both_ways() {
    let post = Post::start();
    let user = post.bob.as_str();
    post.deliver_many(user, 120);
    let page = |from| post.mailboxes.list(user, Folder::Inbox, from).unwrap();
    let numbers =
        |from| -> Vec<u64> { page(from).messages.iter().map(|m| m.place.number).collect() };
    let all: Vec<u64> = post.inbox(user).iter().map(|held| held.place.number).collect();
    assert_eq!(all.len(), 120);
    assert_eq!(numbers(From::Newest), all[..50]);
    assert_eq!(numbers(From::Before(all[49])), all[50..100]);
    assert_eq!(numbers(From::Before(all[99])), all[100..]);
    assert_eq!(numbers(From::After(all[100])), all[50..100]);
    assert_eq!(numbers(From::After(all[20])), all[..50], "a short page is filled up");
    let (first, last) = (page(From::Newest), page(From::Before(all[99])));
    assert_eq!((first.newer, first.older, last.newer, last.older), (false, true, true, false));
}

#[test]
fn sending_twice_delivers_once_and_files_one_copy() {
    let post = Post::start();
    let (guid, file) = (new_guid(), vec![0xa5; 3_000_000]);
    let draft = post.draft(&post.alice, &guid, &post.at(&[&post.bob]), "See you", &file);
    assert_eq!(post.mailboxes.find_draft(&post.alice, &guid).unwrap().as_ref(), Some(&draft));
    let to = post.at(&[&post.bob, &post.carol, &post.bob.to_uppercase()]);
    let made = post.send(&guid, &draft, &to);
    assert!(made.len() == 2 && made.iter().all(|m| m.1 == Ok(Delivered::Stored)), "{made:?}");
    assert!(post.mailboxes.was_sent(&post.alice, &guid).unwrap());

    let again = post.draft(&post.alice, &guid, &post.at(&[&post.bob]), "See you again", &file);
    let made = post.send(&guid, &again, &to);
    assert!(made.iter().all(|m| m.1 == Ok(Delivered::AlreadyThere)), "{made:?}");
    assert_eq!(post.inbox(&post.bob).len(), 1);
    assert_eq!(post.inbox(&post.carol).len(), 1);
    assert_eq!(post.folder(&post.alice, Folder::Drafts), []);
    let sent = post.folder(&post.alice, Folder::Sent);
    assert_eq!(sent.len(), 1);
    let kept = post.mailboxes.typed(&post.alice, &sent[0].entry.guid).unwrap();
    assert_eq!(kept, Some(typed(&post.at(&[&post.bob]))), "that of the first");

    let received = post.read(&post.bob, &post.inbox(&post.bob)[0].entry);
    let letter = penncloud::mail::Letter::parse(&received).unwrap();
    assert_eq!(letter.text().0.trim_end(), "See you");
    assert!(letter.attachment(0).unwrap().1 == file, "the file came whole");
    let text = String::from_utf8(received.clone()).unwrap();
    let (alice, path) = (&post.alice, post.at(&[&post.alice]));
    assert!(text.starts_with(&format!("Return-Path: <{path}>\r\nReceived: from {alice}\r\n")));
    assert!(!text.to_ascii_lowercase().contains(&post.carol), "blind recipients stay unseen");
    [&post.alice, &post.bob, &post.carol].iter().for_each(|user| post.assert_counted(user));
}

#[test]
fn a_draft_saved_again_takes_the_place_of_the_first() {
    let post = Post::start();
    let guid = new_guid();
    let first = post.draft(&post.alice, &guid, &post.at(&[&post.bob]), "one", b"1");
    let second = post.draft(&post.alice, &guid, &post.at(&[&post.bob]), "two", b"2");
    assert_eq!(first.place, second.place);
    let drafts = post.folder(&post.alice, Folder::Drafts);
    assert_eq!(drafts.len(), 1);
    let bytes = post.read(&post.alice, &drafts[0].entry);
    assert_eq!(penncloud::mail::Letter::parse(&bytes).unwrap().text().0.trim_end(), "two");
    assert_eq!(post.columns(&post.alice, "typed/"), 1);
    post.assert_counted(&post.alice);
}
