//! The store's client against backends that follow a script.

use penncloud::client::{Client, Op};
use penncloud::config::Config;
use penncloud::error::{Error, Result};
use penncloud::net::listen::{self, Limits};
use penncloud::net::{Stream, bind};
use penncloud::protocol::auth::Gate;
use penncloud::protocol::command::{Command, Request};
use penncloud::protocol::reply::Reply;
use penncloud::protocol::wire::{Incoming, read_request};
use std::io::{BufReader, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a backend does with a request.
#[derive(Clone)]
enum Act {
    Answer(Reply),
    Close,
    Hang,
}
use Act::*;

/// What is done with the requests that come to any backend; the last one first. Then they close.
type Script = Arc<Mutex<Vec<Act>>>;

/// A client of two backends that follow a script, and the requests that they have seen.
fn client(script: Vec<Act>) -> (Client, Arc<Mutex<Vec<Request>>>) {
    let dir = tempfile::tempdir().unwrap();
    let script: Script = Arc::new(Mutex::new(script.into_iter().rev().collect()));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut text = format!(
        "[cluster]\ndata_dir = {:?}\nmail_domain = 'x'\n\
         [master]\nname = 'm1'\naddress = '127.0.0.1:1'\n[[group]]\nname = 'a'\nbackend = [",
        dir.path()
    );
    let listeners = [(); 2].map(|()| bind("127.0.0.1:0").unwrap());
    for (i, listener) in listeners.iter().enumerate() {
        let address = listener.local_addr().unwrap();
        text += &format!("{{ name = 'a{i}', address = '{address}' }},");
    }
    let config = Config::parse(&(text + "]\n")).unwrap();
    penncloud::tools::format::run(&config).unwrap();
    let secret: Arc<str> = config.secrets().unwrap().cluster.into();
    for listener in listeners {
        let (script, seen, secret) = (script.clone(), seen.clone(), secret.clone());
        let follow = move |stream, _| drop(follow(stream, &secret, &script, &seen));
        let limits = Limits { connections: 64, per_address: 64 };
        listen::spawn(listener, limits, follow, |_| {});
    }
    (Client::new(&config).unwrap().with_time_limit(Duration::from_millis(500)), seen)
}

fn follow(
    mut stream: Stream,
    secret: &Arc<str>,
    script: &Script,
    seen: &Mutex<Vec<Request>>,
) -> Result<()> {
    let mut gate = Gate::new(Some(secret.clone()), true);
    let mut from = BufReader::new(stream.clone());
    while let Incoming::Request(request) = read_request(&mut from, 1024, |c| gate.check(c))? {
        let reply = match &request.command {
            Command::Auth(words) => gate.answer(words),
            _ => {
                seen.lock().unwrap().push(request);
                let act = script.lock().unwrap().pop();
                match act.unwrap_or(Close) {
                    Answer(reply) => reply,
                    Close => return Ok(()),
                    Hang => {
                        std::thread::park();
                        return Ok(());
                    }
                }
            }
        };
        let mut out = Vec::new();
        reply.write(&mut out);
        stream.write_all(&out)?;
    }
    Ok(())
}

#[test]
fn a_request_keeps_its_name_and_says_that_it_is_a_repeat_once_it_may_be_one() {
    let refused = Answer(Reply::Error(Error::retry("not yet")));
    let (client, seen) = client(vec![refused.clone(), Close, refused, Answer(Reply::ok(7))]);
    client.write(Op::put("alice", "c", "v")).unwrap();
    let seen = seen.lock().unwrap();
    let retries: Vec<bool> = seen.iter().map(|request| request.options.retry).collect();
    assert_eq!(retries, [false, false, true, true]);
    assert!(seen.iter().all(|request| request.options.session == seen[0].options.session));
}

/// As often as a tablet refuses while it gets a new primary, which takes seconds.
const REFUSALS: usize = 30;

#[test]
fn a_tablet_without_a_primary_for_seconds_is_waited_for() {
    let refused = Answer(Reply::Error(Error::retry("the tablet has no primary now")));
    let script = [vec![refused; REFUSALS], vec![Answer(Reply::ok(7))]].concat();
    let (client, seen) = client(script);
    client.with_time_limit(Duration::from_secs(60)).write(Op::put("alice", "c", "v")).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), REFUSALS + 1);
    assert!(seen.iter().all(|request| request.options.session == seen[0].options.session));
    assert!(seen.iter().all(|request| !request.options.retry), "no try may have been executed");
}

#[test]
fn a_refusal_is_definite_unless_an_earlier_try_may_still_be_on_its_way() {
    let full = Answer(Reply::Error(Error::TabletFull));
    let (first, _) = client(vec![full.clone()]);
    assert_eq!(first.write(Op::put("alice", "c", "v")), Err(Error::TabletFull));
    let (second, _) = client(vec![Close, full]);
    let outcome = second.write(Op::put("alice", "c", "v"));
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
}

#[test]
fn a_backend_that_hangs_leaves_time_to_ask_another() {
    let (client, seen) = client(vec![Hang, Answer(Reply::ok(7))]);
    let client = client.with_time_limit(Duration::from_secs(4));
    client.write(Op::put("alice", "c", "v")).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn each_backend_has_little_time_in_the_first_round_and_more_in_the_next() {
    let refused = Answer(Reply::Error(Error::retry("not yet")));
    let script = [vec![refused; 2], vec![Answer(Reply::ok(7))]].concat();
    let (client, seen) = client(script);
    client.with_time_limit(Duration::from_secs(1000)).write(Op::put("alice", "c", "v")).unwrap();
    let deadlines: Vec<u64> =
        seen.lock().unwrap().iter().map(|request| request.options.deadline_ms.unwrap()).collect();
    assert!(deadlines[..2].iter().all(|ms| *ms <= 125_000), "{deadlines:?}");
    assert!((250_001..=500_000).contains(&deadlines[2]), "{deadlines:?}");
    let (short, seen) = self::client(vec![Answer(Reply::ok(7))]);
    short.with_time_limit(Duration::from_secs(4)).write(Op::put("alice", "c", "v")).unwrap();
    let least = seen.lock().unwrap()[0].options.deadline_ms.unwrap();
    assert!((501..=1000).contains(&least), "{least} ms");
}
