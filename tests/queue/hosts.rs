//! The client against hosts of every kind: what they do, and what becomes of two recipients.

use crate::harness::Remote;
use crate::harness::remote::Manners;
use penncloud::error::Error;
use penncloud::mail::Address;
use penncloud::mail::queue::{Options, Recipient};
use penncloud::smtp::client::{Ended, Order, Outcome, Patience, Secrecy, Session, Target};
use std::time::Duration;

const MESSAGE: &str = "Subject: hi\r\n\r\n.\r\n..two\r\nlast";
/// Long enough that a polite host on a busy machine is never late.
const PATIENCE: Patience =
    Patience { command: Duration::from_secs(30), slice: Duration::from_millis(50) };
/// For hosts that are late on purpose.
const HURRY: Patience =
    Patience { command: Duration::from_millis(2500), slice: Duration::from_millis(50) };

fn order() -> Order {
    let recipient = |text| Recipient::new(Address::parse(text).unwrap());
    Order {
        name: "penn.test".into(),
        sender: Some(Address::parse("alice@penn.test").unwrap()),
        recipients: vec![recipient("a@x.org"), recipient("b@x.org")],
        size: MESSAGE.len() as u64,
        options: Options::default(),
    }
}

fn send(remote: &Remote, patience: Patience) -> Result<Ended, Error> {
    Session {
        order: order(),
        target: &Target { host: "remote".into(), address: remote.address },
        secrecy: Secrecy::Offered,
        login: None,
        patience,
        open: &mut || Ok(Box::new(MESSAGE.as_bytes())),
        tick: &mut || Ok(()),
    }
    .run()
}

/// `sent`, or the word and the enhanced code.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Sent(_) => "sent".into(),
        Outcome::Deferred(answer) => format!("deferred {}", answer.status),
        Outcome::Failed(answer) => format!("failed {}", answer.status),
    }
}

/// Name, manners, what becomes of both recipients, and connections.
type Case = (&'static str, Manners, &'static str, usize);

const HOSTS: &[Case] = &[
    ("polite", &[], "sent, sent", 1),
    ("pipelines", &[("EHLO", "250-remote\n250 PIPELINING")], "sent, sent", 1),
    ("knows no EHLO", &[("EHLO", "500 what")], "sent, sent", 1),
    ("refuses all", &[("GREETING", "554 5.3.2 no mail here")], "deferred 4.3.2, deferred 4.3.2", 1),
    ("is busy", &[("GREETING", "421 4.3.2 busy")], "deferred 4.3.2, deferred 4.3.2", 1),
    ("hangs up at once", &[("GREETING", "@close")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("speaks another language", &[("GREETING", "SSH-2.0-x")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("replies without end", &[("GREETING", "@flood")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("hangs up at EHLO", &[("EHLO", "@close")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("offers without end", &[("EHLO", "@flood")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("mixes codes", &[("EHLO", "250-remote\n550 no")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("sends octets", &[("EHLO", "@raw \u{0}\u{1}é\r\n")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("ends lines with LF", &[("EHLO", "@raw 250 remote\n")], "sent, sent", 1),
    ("hangs up at MAIL", &[("MAIL", "@close")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("refuses the sender", &[("MAIL", "550 5.7.1 no")], "failed 5.7.1, failed 5.7.1", 1),
    ("puts the sender off", &[("MAIL", "451 4.7.1 grey")], "deferred 4.7.1, deferred 4.7.1", 1),
    ("refuses one", &[("RCPT1", "550 5.1.1 nobody")], "failed 5.1.1, sent", 1),
    ("puts one off", &[("RCPT2", "452 4.2.2 full")], "sent, deferred 4.2.2", 1),
    ("has enough of them", &[("RCPT2", "552 5.5.3 too many")], "sent, deferred 4.5.3", 1),
    (
        "refuses both",
        &[("RCPT1", "550 5.1.1 no"), ("RCPT2", "551 5.1.6 moved")],
        "failed 5.1.1, failed 5.1.6",
        1,
    ),
    ("hangs up between them", &[("RCPT2", "@close")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("says good bye", &[("RCPT2", "421 4.3.2 bye")], "deferred 4.3.2, deferred 4.3.2", 1),
    ("refuses DATA", &[("DATA", "554 5.5.1 no")], "failed 5.5.1, failed 5.5.1", 1),
    ("mistakes DATA", &[("DATA", "250 ok")], "deferred 4.0.0, deferred 4.0.0", 1),
    ("hangs up at DATA", &[("DATA", "@close")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("hangs up after the dot", &[("DOT", "@close")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("thinks it is spam", &[("DOT", "554 5.7.1 spam")], "failed 5.7.1, failed 5.7.1", 1),
    ("is full", &[("DOT", "452 4.3.1 full")], "deferred 4.3.1, deferred 4.3.1", 1),
    ("mistakes the dot", &[("DOT", "354 go on")], "deferred 4.0.0, deferred 4.0.0", 1),
    ("hangs up at QUIT", &[("QUIT", "@close")], "sent, sent", 1),
    ("is silent at QUIT", &[("QUIT", "@hang")], "sent, sent", 1),
    ("has no room", &[("EHLO", "250-remote\n250 SIZE 10")], "failed 5.3.4, failed 5.3.4", 1),
    ("speaks TLS", &[("EHLO", "250-remote\n250 STARTTLS")], "sent, sent", 1),
    (
        "takes STARTTLS back",
        &[("EHLO", "250-remote\n250 STARTTLS"), ("STARTTLS", "454 not now")],
        "sent, sent",
        1,
    ),
    (
        "breaks TLS",
        &[("EHLO", "250-remote\n250 STARTTLS"), ("SHAKE", "@raw nonsense nonsense nonsense")],
        "sent, sent",
        2,
    ),
    (
        "hangs up in TLS",
        &[("EHLO", "250-remote\n250 STARTTLS"), ("SHAKE", "@close")],
        "sent, sent",
        2,
    ),
    (
        "replies before TLS",
        &[("EHLO", "250-remote\n250 STARTTLS"), ("STARTTLS", "220 go\n250 injected\n250 injected")],
        "sent, sent",
        1,
    ),
];

/// Hosts that do not come to an end.
const SLOW: &[Case] = &[
    ("is silent", &[("GREETING", "@hang")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("drips", &[("GREETING", "@drip")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("is silent at MAIL", &[("MAIL", "@hang")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("is silent at DATA", &[("DATA", "@hang")], "deferred 4.4.2, deferred 4.4.2", 1),
    ("is silent after the dot", &[("DOT", "@hang")], "deferred 4.4.2, deferred 4.4.2", 1),
];

fn check((name, manners, want, connections): Case, patience: Patience) -> Result<(), String> {
    let remote = Remote::start(manners);
    let ended = send(&remote, patience).map_err(|e| format!("{name}: {e}"))?;
    let words: Vec<String> = ended.outcomes.iter().map(word).collect();
    let (words, made) = (words.join(", "), remote.connections());
    if (words.as_str(), made) == (want, connections) {
        return Ok(());
    }
    Err(format!("a host that {name}: {words} in {made} connections: {:?}", ended.outcomes))
}

#[test]
fn every_host_has_its_outcome() {
    let all = HOSTS.iter().map(|case| (*case, PATIENCE));
    let all: Vec<_> = all.chain(SLOW.iter().map(|case| (*case, HURRY))).collect();
    let threads = all.into_iter().map(|(case, time)| std::thread::spawn(move || check(case, time)));
    let threads: Vec<_> = threads.collect();
    let faults = threads.into_iter().filter_map(|thread| thread.join().unwrap().err());
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_message_arrives_as_it_was() {
    let remote = Remote::start(&[("EHLO", "250-remote\n250-8BITMIME\n250-SIZE\n250 STARTTLS")]);
    send(&remote, PATIENCE).unwrap();
    let received = remote.received().remove(0);
    assert_eq!(received.message, format!("{MESSAGE}\r\n"));
    assert_eq!(received.mail, "MAIL FROM:<alice@penn.test> SIZE=29 BODY=8BITMIME");
    assert_eq!(received.recipients, ["RCPT TO:<a@x.org>", "RCPT TO:<b@x.org>"]);
    assert!(received.secure);
}

#[test]
fn a_lost_lease_drops_the_connection() {
    let remote = Remote::start(&[("DATA", "@hang")]);
    let mut ticks = 0;
    let ended = Session {
        order: order(),
        target: &Target { host: "remote".into(), address: remote.address },
        secrecy: Secrecy::Offered,
        login: None,
        patience: PATIENCE,
        open: &mut || Ok(Box::new(MESSAGE.as_bytes())),
        tick: &mut || {
            ticks += 1;
            if ticks > 12 { Err(Error::Denied("lost".into())) } else { Ok(()) }
        },
    }
    .run();
    assert!(matches!(ended, Err(Error::Denied(_))));
    assert!(remote.received().is_empty());
}
