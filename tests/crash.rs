//! kill -9, in turn, of every process of a cluster while people write to it: what was acknowledged is there
//! afterwards, and nothing is there twice.

use crate::harness::web::Upload;
use crate::harness::{Cluster, EndOnPanic, PATIENCE, Smtp, Text, Web, eventually, long, noise};
use penncloud::client::{Client, Op, Scan, Written};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Acknowledgements of each writer between two kills.
const STEP: usize = 3;
/// Bytes of an uploaded file: four cells and a bit.
const FILE_BYTES: usize = 270_001;

/// How one writer gets on.
struct Writer {
    name: &'static str,
    acknowledged: AtomicUsize,
}

/// The cluster, its writers, and when they stop.
struct Scene {
    cluster: Cluster,
    writers: [Writer; 4],
    over: AtomicBool,
}

impl Scene {
    fn start() -> Scene {
        let writer = |name| Writer { name, acknowledged: AtomicUsize::new(0) };
        let writers = ["put", "append", "mail", "file"].map(writer);
        Scene { cluster: Cluster::start(), writers, over: AtomicBool::new(false) }
    }

    /// Calls `write` with 0, 1, 2 … until the scene is over; what it acknowledged.
    fn write_on<T>(&self, writer: usize, mut write: impl FnMut(usize) -> Option<T>) -> Vec<T> {
        let mut acknowledged = Vec::new();
        for i in 0.. {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            match write(i) {
                Some(done) => {
                    acknowledged.push(done);
                    self.writers[writer].acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                None => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
        acknowledged
    }

    /// Waits until every writer has got some further.
    fn all_write(&self, after: &str) {
        for writer in &self.writers {
            let goal = writer.acknowledged.load(Ordering::Relaxed) + STEP;
            eventually(&format!("{} gets on after {after}", writer.name), || {
                (writer.acknowledged.load(Ordering::Relaxed) >= goal).then_some(())
            });
        }
    }

    /// Waits until some writer has got further, if any can.
    fn some_write(&self) {
        let sum = || self.writers.iter().map(|w| w.acknowledged.load(Ordering::Relaxed)).sum();
        let (before, end): (usize, _) = (sum(), Instant::now() + PATIENCE / 60);
        while sum() < before + STEP && Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn web(&self) -> Web {
        Web::new(&self.cluster.address("f2"))
    }

    /// One process after another; then all of them at once.
    fn kill_in_turn(&self) {
        self.all_write("the start");
        for _ in 0..if long() { 20 } else { 1 } {
            self.kill_each();
            self.kill_the_store();
        }
        self.over.store(true, Ordering::Relaxed);
    }

    fn kill_each(&self) {
        for name in ["a1", "b2", "m1", "a2", "s1", "f2", "lb", "console", "b1"] {
            self.cluster.kill(name);
            self.some_write();
            self.cluster.start_again(name);
            self.all_write(&format!("{name} was killed and started again"));
        }
    }

    fn kill_the_store(&self) {
        let backends = self.cluster.backends();
        backends.iter().for_each(|name| self.cluster.kill(name));
        self.cluster.kill("m1");
        for name in backends.iter().map(String::as_str).chain(["m1"]) {
            self.cluster.start_again(name);
        }
        self.all_write("all of the store was killed and started again");
    }
}

/// Somebody with netcat: a new cell each time, to whichever backend answers.
fn put_once(scene: &Scene, i: usize) -> Option<usize> {
    let backends = scene.cluster.backends();
    let mut store = Text::connect(&scene.cluster.address(&backends[i % backends.len()])).ok()?;
    store.put(&format!("put-{}", i % 7), &format!("c{i}"), format!("value {i}").as_bytes()).ok()?;
    Some(i)
}

/// The store's own client: an APPEND is repeated under its name until it is answered.
fn append_once(client: &Client, i: usize) -> Option<usize> {
    match client.write(Op::append("append", "m/", format!("{i}"))) {
        Ok(Written::Done { .. }) => Some(i),
        _ => None,
    }
}

/// A mail server that repeats a message until it has gone: what it repeats is one message.
fn mail_until_taken(scene: &Scene, i: usize) -> Option<usize> {
    let message =
        format!("Subject: {i}\r\nMessage-ID: <{i}@y.org>\r\n\r\n{}", "x\r\n".repeat(i % 9));
    while !scene.over.load(Ordering::Relaxed) {
        let sent = Smtp::connect(&scene.cluster.address("s1"))
            .and_then(|mut smtp| smtp.message("x@y.org", &["carol@penn.test"], message.as_bytes()));
        if sent.is_ok_and(|reply| reply.starts_with("250 ")) {
            return Some(i);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    None
}

/// A person who uploads files, each once.
fn upload_once(web: &mut Web, i: usize) -> Option<usize> {
    let bytes = noise(i as u64, FILE_BYTES);
    let (name, csrf) = (format!("file {i}"), web.get("/files").ok()?);
    if csrf.status != 200 || !csrf.source().contains("/upload\"") {
        return None;
    }
    let file = Upload { field: "file", name: &name, bytes: &bytes };
    let page = web.send(&csrf.form("/upload"), &[file]).ok()?;
    (page.status == 303).then_some(i)
}

fn sign_up(web: &mut Web) {
    let fields = [("username", "carol"), ("password", "correct horse battery")];
    let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
}

#[test]
fn what_was_acknowledged_survives_kill_9_of_every_process_and_nothing_is_there_twice() {
    let scene = Scene::start();
    let client = Client::new(scene.cluster.config()).unwrap();
    let mut web = scene.web();
    sign_up(&mut web);
    let (puts, appends, mails, files) = std::thread::scope(|scope| {
        let _end = EndOnPanic(&scene.over);
        let puts = scope.spawn(|| scene.write_on(0, |i| put_once(&scene, i)));
        let appends = scope.spawn(|| scene.write_on(1, |i| append_once(&client, i)));
        let mails = scope.spawn(|| scene.write_on(2, |i| mail_until_taken(&scene, i)));
        let files = scope.spawn(|| scene.write_on(3, |i| upload_once(&mut web, i)));
        scene.kill_in_turn();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        (join(puts), join(appends), join(mails), join(files))
    });
    assert!(puts.len().min(appends.len()).min(mails.len()).min(files.len()) > 10 * STEP);
    check_puts(&scene, &puts);
    check_appends(&client, &appends);
    check_mails(&client, &mails);
    check_files(&mut web, &files);
}

fn check_puts(scene: &Scene, acknowledged: &[usize]) {
    let mut store = Text::connect(&scene.cluster.address("b1")).unwrap();
    for i in acknowledged {
        let found = store.get(&format!("put-{}", i % 7), &format!("c{i}")).unwrap();
        assert_eq!(found.map(|(_, value)| value), Some(format!("value {i}").into_bytes()), "c{i}");
    }
}

/// All columns of a row, with their values as text.
fn columns(client: &Client, row: &str, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let scan = Scan {
            row: row.into(),
            prefix: prefix.into(),
            after,
            limit: 500,
            values: true,
            ..Scan::default()
        };
        let (columns, more) = client.scan(scan).unwrap();
        all.extend(
            columns.iter().map(|c| (text(&c.name), text(c.value.as_deref().unwrap_or_default()))),
        );
        if !more {
            return all;
        }
        after = columns.last().map(|c| c.name.clone());
    }
}

fn count(values: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts
}

fn check_appends(client: &Client, acknowledged: &[usize]) {
    let counts = count(columns(client, "append", "m/").into_iter().map(|(_, value)| value));
    for i in acknowledged {
        assert_eq!(counts.get(&i.to_string()), Some(&1), "append {i}");
    }
    assert!(counts.values().all(|n| *n == 1), "an append that was not acknowledged is there twice");
}

fn check_mails(client: &Client, acknowledged: &[usize]) {
    let subject = |(_, json): (String, String)| {
        let entry: serde_json::Value = serde_json::from_str(&json).unwrap();
        entry["subject"].as_str().unwrap().to_string()
    };
    let entries = columns(client, "carol/mail", "m/inbox/");
    let total = entries.len();
    let counts = count(entries.into_iter().map(subject));
    for i in acknowledged {
        assert_eq!(counts.get(&i.to_string()), Some(&1), "message {i}");
    }
    assert!(counts.values().all(|n| *n == 1), "a message is there twice: {counts:?}");
    let counted = columns(client, "carol/mail", "count/inbox/total");
    assert_eq!(counted[0].1, total.to_string(), "the counter equals a recount");
}

fn check_files(web: &mut Web, acknowledged: &[usize]) {
    let mut links = BTreeMap::new();
    let mut path = "/files".to_string();
    loop {
        let page = web.get(&path).unwrap();
        let found = crate::harness::html::links(&page.source());
        for (to, says) in found.iter().filter(|(to, _)| to.ends_with("/download")) {
            if says.starts_with("file ") {
                links.insert(says.clone(), to.clone());
            }
        }
        match found.iter().find(|(_, says)| says == "Next page") {
            Some((next, _)) => path = next.clone(),
            None => break,
        }
    }
    for i in acknowledged {
        let to = links.get(&format!("file {i}")).unwrap_or_else(|| panic!("file {i} is missing"));
        let body: io::Result<_> = web.get(to).map(|page| page.body);
        assert!(body.unwrap() == noise(*i as u64, FILE_BYTES), "file {i} has changed");
    }
}
