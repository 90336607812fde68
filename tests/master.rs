//! The master over real sockets, with backends that are played by the test.

use penncloud::config::Config;
use penncloud::error::Error;
use penncloud::master::record::{NodeRecord, Record};
use penncloud::master::store::{ConfigStore, FileStore};
use penncloud::net::{Limits, Stream, listen};
use penncloud::protocol::auth::{Gate, prove};
use penncloud::protocol::cluster::{
    Class, ClusterStatus, Hello, NodeState, Report, Role, Routes, TabletReport, TabletRoute,
    tablet_id,
};
use penncloud::protocol::command::{Command, Peer, Request};
use penncloud::protocol::reply::Reply;
use penncloud::protocol::wire::{Incoming, read_reply, read_request, read_text};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A backend played by the test.
#[derive(Clone)]
struct Fake {
    address: String,
    play: Arc<Mutex<Play>>,
}

/// How a played backend behaves, and what it has been told.
struct Play {
    name: String,
    store: String,
    boot: String,
    state: NodeState,
    /// It answers nothing any more.
    mute: bool,
    beats: u64,
    routes: Vec<Routes>,
    /// What it says of its tablets.
    tablets: Vec<TabletReport>,
    /// What it was asked about tablets: verb, tablet and epoch.
    asked: Vec<(String, String, u64)>,
}

impl Fake {
    fn start(name: &str) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let play = Play {
            name: name.into(),
            store: format!("disk-of-{name}"),
            boot: "run-1".into(),
            state: NodeState::Alive,
            mute: false,
            beats: 0,
            routes: Vec::new(),
            tablets: Vec::new(),
            asked: Vec::new(),
        };
        let fake = Fake { address, play: Arc::new(Mutex::new(play)) };
        let player = fake.clone();
        let limits = Limits { connections: 16, per_address: 16 };
        listen::spawn(listener, limits, move |stream, _| player.connection(stream), |_| {});
        fake
    }

    fn connection(&self, mut stream: Stream) {
        let mut gate = Gate::new(Some(SECRET.into()), true);
        let mut from = BufReader::new(stream.clone());
        while let Ok(Incoming::Request(request)) = read_request(&mut from, 1024, |_| Ok(())) {
            let reply = match request.command {
                Command::Auth(words) => gate.answer(&words),
                Command::Peer(peer) if gate.is_proved() => self.play.lock().unwrap().answer(&peer),
                _ => Reply::Error(Error::Denied("begin with AUTH".into())),
            };
            if self.play.lock().unwrap().mute {
                std::thread::park_timeout(PATIENCE);
            }
            let mut out = Vec::new();
            reply.write(&mut out);
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Play)) {
        change(&mut self.play.lock().unwrap());
    }

    /// Waits until it is asked about a tablet.
    fn until_asked(&self, verb: &str, tablet: &str, epoch: u64) {
        until(&format!("{verb} {tablet} {epoch}"), || {
            self.play.lock().unwrap().asked.contains(&(verb.into(), tablet.into(), epoch))
        });
    }

    /// The process dies and comes back: it has sealed the epochs of the tablets that it led.
    fn restart(&self, boot: &str, sealed: &[(&str, u64)]) {
        let report = |(id, epoch): &(&str, u64)| TabletReport {
            id: id.to_string(),
            epoch: *epoch,
            sealed: *epoch,
            role: Role::Sealed,
            ..TabletReport::default()
        };
        self.change(|play| {
            play.boot = boot.into();
            play.tablets = sealed.iter().map(report).collect();
        });
    }

    /// The newest routes it was told.
    fn routes(&self) -> Routes {
        self.play.lock().unwrap().routes.last().cloned().unwrap_or_default()
    }
}

impl Play {
    fn answer(&mut self, message: &Peer) -> Reply {
        let mut words = Vec::new();
        match message.verb.as_str() {
            "@HELLO" => {
                let hello: Hello = serde_json::from_slice(&message.payload).unwrap();
                assert!(!hello.node.is_empty());
                words =
                    [&self.name, &self.store, &self.boot].map(|w| w.clone().into_bytes()).into();
            }
            "@BEAT" => {
                self.beats += 1;
                words = message.words.clone();
            }
            "@ROUTES" => {
                self.routes.push(serde_json::from_slice(&message.payload).unwrap());
                return Reply::Peer { words, payload: Vec::new() };
            }
            "@SEAL" | "@RESIGN" => {
                let route: TabletRoute = serde_json::from_slice(&message.payload).unwrap();
                self.asked.push((message.verb.clone(), route.id, route.epoch));
                return Reply::Peer { words, payload: Vec::new() };
            }
            "@SHUTDOWN" => self.state = NodeState::Shutdown,
            "@WAKEUP" => self.state = NodeState::Alive,
            verb => return Reply::Error(Error::bad(format!("unknown message {verb}"))),
        }
        let tablets = self.tablets.clone();
        let report = Report { state: self.state, tablets, uptime_ms: 61_000, ..Report::default() };
        Reply::Peer { words, payload: serde_json::to_vec(&report).unwrap() }
    }
}

/// Tables of two groups: a with two nodes, b with one.
struct House {
    fakes: Vec<Fake>,
    directory: tempfile::TempDir,
    config: Config,
}

/// Heartbeats of a test: often enough to be quick, patient enough for a busy machine.
const BEATS: &str = "heartbeat_interval_ms = 20\nheartbeat_timeout_ms = 1000";

impl House {
    fn new(auth: &str, beats: &str) -> House {
        let fakes: Vec<Fake> = ["a1", "a2", "b1"].map(Fake::start).into();
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
            cluster = {{ data_dir = {:?}, mail_domain = "penn.test", auth = "{auth}" }}
            group = [
                {{ name = "a", backend = [{{ name = "a1", address = "{}" }}, {{ name = "a2", address = "{}" }}] }},
                {{ name = "b", backend = [{{ name = "b1", address = "{}" }}] }},
            ]
            [master]
            name = "m1"
            address = "{}"
            {beats}
            [store]
            small_tablets = 2
            large_tablets = 1
            "#,
            directory.path(),
            fakes[0].address,
            fakes[1].address,
            fakes[2].address,
            free_address()
        );
        std::fs::write(directory.path().join("test.toml"), &config).unwrap();
        let secrets = format!(r#"{{"cluster":"{SECRET}","admin_password":"x"}}"#);
        std::fs::write(directory.path().join("secrets.json"), secrets).unwrap();
        House { fakes, config: Config::parse(&config).unwrap(), directory }
    }

    /// The same, where a1 leads all tablets of group a in epoch 1, and a2 is in sync.
    fn replicated() -> House {
        let house = House::new("remote", BEATS);
        let store = FileStore::open(&house.config.data_dir("m1")).unwrap();
        let keep = |record: Record| store.cas(&record.key(), 0, &record.to_bytes()).unwrap();
        let nodes = vec!["a1".to_string(), "a2".to_string()];
        for (name, fake) in nodes.iter().zip(&house.fakes) {
            keep(Record::Node(NodeRecord {
                name: name.clone(),
                address: fake.address.clone(),
                group: "a".into(),
                store_uuid: Some(format!("disk-of-{name}")),
            }));
        }
        for (class, index) in [(Class::Small, 0), (Class::Small, 1), (Class::Large, 0)] {
            let route = TabletRoute {
                id: tablet_id("a", class, index),
                group: "a".into(),
                class,
                index,
                epoch: 1,
                primary: Some("a1".into()),
                isr: nodes.clone(),
                members: nodes.clone(),
                min_insync: 1,
                clean: false,
            };
            keep(Record::Tablet(route));
        }
        house
    }

    /// Runs the master on a thread, which ends with the tests; its address.
    fn run(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = self.config.clone();
        std::thread::spawn(move || penncloud::master::serve(&config, listener, SECRET.into()));
        address
    }

    /// Runs the master as a process of its own, at the configured address.
    fn process(&self) -> Process {
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_penncloud"))
            .args(["master", "--name", "m1", "--config"])
            .arg(self.directory.path().join("test.toml"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(child);
        until("the master listens", || {
            Stream::connect(&self.config.master.address, PATIENCE).is_ok()
        });
        let answer = Line::to(&self.config.master.address).ask("PING");
        assert!(
            matches!(answer, Reply::Pong | Reply::Error(_)),
            "it has its directory: {answer:?}"
        );
        process
    }
}

/// A process that is killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that is free now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A connection to the master.
struct Line {
    stream: Stream,
    from: BufReader<Stream>,
    proved: bool,
}

impl Line {
    fn to(address: &str) -> Line {
        let stream = Stream::connect(address, PATIENCE).unwrap();
        stream.set_deadline(Some(Instant::now() + PATIENCE));
        Line { from: BufReader::new(stream.clone()), stream, proved: false }
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    fn ask(&mut self, text: &str) -> Reply {
        self.say(format!("{text}\n"));
        read_reply(&mut self.from, false).unwrap()
    }

    fn text(&mut self, verb: &str) -> String {
        self.say(format!("{verb}\n"));
        read_text(&mut self.from).unwrap()
    }

    fn status(&mut self) -> ClusterStatus {
        self.peer("@GETSTATUS 0")
    }

    fn routes(&mut self) -> Routes {
        self.peer("@GETROUTES 0")
    }

    fn prove(&mut self) {
        if !self.proved {
            prove(&mut self.from, &mut self.stream, SECRET).unwrap();
            self.proved = true;
        }
    }

    /// Asks as one of PennCloud's own processes.
    fn peer<T: serde::de::DeserializeOwned>(&mut self, text: &str) -> T {
        self.prove();
        let Reply::Peer { payload, .. } = self.ask(text) else { panic!("{text} has an answer") };
        serde_json::from_slice(&payload).unwrap()
    }

    /// Says what a node says by itself.
    fn tell(&mut self, text: &str) {
        self.prove();
        let told = self.ask(&format!("{text} 0"));
        assert_eq!(told, Reply::Peer { words: vec![], payload: vec![] }, "{text}");
    }

    /// A tablet's epoch, primary and in-sync set, once it has this epoch.
    fn tablet(&mut self, id: &str, epoch: u64) -> TabletRoute {
        let mut found = None;
        until(&format!("{id} is in epoch {epoch}"), || {
            found = self.routes().tablet(id).ok().cloned();
            found.as_ref().is_some_and(|t| t.epoch >= epoch)
        });
        let found = found.unwrap();
        assert_eq!(found.epoch, epoch, "{found:?}");
        found
    }

    fn state_of(&mut self, node: &str) -> NodeState {
        self.status().nodes.iter().find(|n| n.name == node).unwrap().state
    }

    fn until_all_alive(&mut self) {
        until("all nodes are alive", || {
            self.status().nodes.iter().all(|n| n.state == NodeState::Alive)
        });
    }
}

/// Epochs of the tablets that a node leads.
fn epochs_of(routes: &Routes, node: &str) -> Vec<u64> {
    let led = routes.tablets.iter().filter(|t| t.primary.as_deref() == Some(node));
    led.map(|t| t.epoch).collect()
}

#[test]
fn every_backend_is_told_the_routes_and_all_tablets_get_their_first_epoch() {
    let house = House::new("remote", BEATS);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    for fake in &house.fakes {
        until("the newest routes arrive", || {
            let routes = fake.routes();
            routes.tablets.len() == 6 && routes.tablets.iter().all(|t| t.epoch == 1)
        });
        until("all are said to be alive", || fake.routes().nodes.iter().all(|n| n.alive));
    }
    let routes = line.routes();
    until("the newest routes arrive", || house.fakes[0].routes() == routes);
}

#[test]
fn where_names_the_primary_first_while_it_is_alive() {
    let house = House::new("remote", BEATS);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    let routes = line.routes();
    let of_a2 = |owner: &String| {
        routes.tablet_of_row(owner.as_bytes()).unwrap().primary.as_deref() == Some("a2")
    };
    let owner = (0..).map(|n| format!("user{n}")).find(of_a2).unwrap();
    let mut first = || {
        let Reply::Group { name, nodes } = line.ask(&format!("WHERE {owner}")) else {
            panic!("a group is expected")
        };
        assert_eq!((name.as_str(), nodes.len()), ("a", 2));
        nodes[0].clone()
    };
    assert_eq!(first(), ("a2".into(), house.fakes[1].address.clone()));
    house.fakes[1].change(|play| play.mute = true);
    until("an alive node comes first", || first().0 == "a1");
}

#[test]
fn a_silent_backend_is_dead_and_one_that_answers_again_is_alive() {
    let house = House::new("remote", BEATS);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    house.fakes[2].change(|play| play.mute = true);
    until("b1 is dead", || line.state_of("b1") == NodeState::Dead);
    let said = "NO PRIMARY: no in-sync replica is alive: b1 is dead";
    assert!(line.text("STATUS").contains(said));
    until("the others are told", || {
        house.fakes[0].routes().nodes.iter().any(|n| n.name == "b1" && !n.alive)
    });
    house.fakes[2].change(|play| play.mute = false);
    until("b1 is alive", || line.state_of("b1") == NodeState::Alive);
}

#[test]
fn a_restarted_backend_gets_its_tablets_in_the_next_epoch() {
    let house = House::new("remote", BEATS);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    house.fakes[0].change(|play| play.mute = true);
    house.fakes[0].restart("run-2", &[("a-s0", 1), ("a-l0", 1)]);
    until("the connection is given up", || line.state_of("a1") == NodeState::Dead);
    house.fakes[0].change(|play| play.mute = false);
    until("the next epoch is told", || epochs_of(&house.fakes[0].routes(), "a1") == [2, 2]);
    assert_eq!(epochs_of(&house.fakes[0].routes(), "a2"), [1]);
}

#[test]
fn another_disk_is_refused_and_told_nothing() {
    let house = House::new("remote", BEATS);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    house.fakes[0].change(|play| play.mute = true);
    until("a1 is dead", || line.state_of("a1") == NodeState::Dead);
    house.fakes[0].change(|play| {
        play.mute = false;
        play.store = "another-disk".into();
        play.boot = "run-2".into();
        play.routes.clear();
    });
    until("a1 is refused", || line.state_of("a1") == NodeState::Refused);
    assert!(line.text("STATUS").contains("disk replaced: its tablets' data is missing"));
    assert_eq!(house.fakes[0].routes(), Routes::default());
    assert_eq!(epochs_of(&line.routes(), "a1"), [1, 1]);
    house.fakes[0].change(|play| play.store = "disk-of-a1".into());
    until("the old disk serves again", || line.state_of("a1") == NodeState::Alive);
}

#[test]
fn another_backend_at_the_address_is_not_taken_for_the_node() {
    let house = House::new("remote", BEATS);
    house.fakes[0].change(|play| play.name = "a2".into());
    let mut line = Line::to(&house.run());
    until("it is noticed", || line.text("STATUS").contains("a2 answers at"));
    assert_eq!(house.fakes[0].routes(), Routes::default());
}

#[test]
fn shutdown_and_wakeup_are_passed_on() {
    let house = House::new("remote", BEATS);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    assert!(matches!(line.ask("SHUTDOWN b1"), Reply::Error(Error::Retry(_))), "nobody else has it");
    assert_eq!(line.ask("SHUTDOWN b1 force=1"), Reply::Ok(vec![]));
    until("it is known", || line.state_of("b1") == NodeState::Shutdown);
    assert!(line.text("NODES").contains(&format!("b1 {} b shutdown", house.fakes[2].address)));
    assert_eq!(line.ask("WAKEUP b1"), Reply::Ok(vec![]));
    until("it is known", || line.state_of("b1") == NodeState::Alive);
    assert!(matches!(line.ask("SHUTDOWN zz"), Reply::Error(Error::Bad(_))));
    house.fakes[2].change(|play| play.mute = true);
    until("it is dead", || line.state_of("b1") == NodeState::Dead);
    assert!(matches!(line.ask("WAKEUP b1"), Reply::Error(_)));
}

#[test]
fn a_replica_that_has_sealed_takes_over_from_a_dead_primary() {
    let house = House::replicated();
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    house.fakes[0].change(|play| play.mute = true);
    house.fakes[1].until_asked("@SEAL", "a-s0", 1);
    line.tell("@SEALED a-s0 1 a2 1 7");
    let led = line.tablet("a-s0", 2);
    assert_eq!(
        (led.primary.as_deref(), led.isr, led.clean),
        (Some("a2"), vec!["a2".into()], false)
    );
    until("the new primary is told", || epochs_of(&house.fakes[1].routes(), "a2") == [2]);
    let said = line.text("STATUS");
    assert!(said.contains("tablet a-s0: epoch 2, primary a2, in sync a2"), "{said}");
    assert!(said.contains(": ONE COPY LEFT"), "{said}");
    house.fakes[0].change(|play| play.mute = false);
    line.until_all_alive();
    line.tell("@PLEA a-s0 2 a2 ADD a1");
    assert_eq!(line.tablet("a-s0", 3).isr, ["a1", "a2"]);
    line.tell("@PLEA a-s0 3 a2 REMOVE a1");
    assert_eq!(line.tablet("a-s0", 4).isr, ["a2"]);
    line.tell("@PLEA a-s0 4 a2 ADD a1");
    assert_eq!(line.tablet("a-s0", 5).isr, ["a1", "a2"]);
    line.tell("@PLEA a-s0 5 a2 NOLEASE");
    house.fakes[1].until_asked("@SEAL", "a-s0", 5);
}

#[test]
fn a_node_that_is_shut_down_hands_its_tablets_over_first() {
    let house = House::replicated();
    let address = house.run();
    let mut line = Line::to(&address);
    line.until_all_alive();
    let client = std::thread::spawn(move || Line::to(&address).ask("SHUTDOWN a1"));
    for tablet in ["a-s0", "a-s1", "a-l0"] {
        house.fakes[0].until_asked("@RESIGN", tablet, 1);
        line.tell(&format!("@RESIGNED {tablet} 1 a1"));
        let led = line.tablet(tablet, 2);
        assert_eq!((led.primary.as_deref(), led.clean), (Some("a2"), true));
        assert_eq!(led.isr, ["a2"]);
    }
    assert_eq!(client.join().unwrap(), Reply::Ok(vec![]));
    until("it is known", || line.state_of("a1") == NodeState::Shutdown);
    assert_eq!(line.ask("WAKEUP a1"), Reply::Ok(vec![]));
    line.until_all_alive();
}

#[test]
fn a_node_that_answers_no_order_is_shut_down_nevertheless() {
    let house = House::replicated();
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    assert_eq!(line.ask("SHUTDOWN a1"), Reply::Ok(vec![]));
    house.fakes[1].until_asked("@SEAL", "a-s0", 1);
}

#[test]
fn what_no_node_would_say_is_refused() {
    let house = House::replicated();
    let mut line = Line::to(&house.run());
    line.prove();
    for bad in [
        "@SEALED a-s0 1 a2 0",
        "@SEALED a-s0 1 a2 1 x 0",
        "@RESIGNED a-s0 -1 a2 0",
        "@RESIGNED a-s0 1 a2 a2 0",
        "@PLEA a-s0 1 a2 0",
        "@PLEA a-s0 1 a2 DANCE 0",
        "@PLEA a-s0 1 a2 ADD 0",
        "@PLEA 0",
    ] {
        assert!(matches!(line.ask(bad), Reply::Error(Error::Bad(_))), "{bad}");
    }
    for strange in ["@SEALED zz 1 zz 1 1", "@RESIGNED a-s0 9 a2", "@PLEA zz 1 a2 TELL"] {
        line.tell(strange);
    }
    assert_eq!(line.tablet("a-s0", 1).primary.as_deref(), Some("a1"));
}

#[test]
fn a_suspect_is_looked_after_at_once() {
    let slow = "heartbeat_interval_ms = 600000\nheartbeat_timeout_ms = 900000";
    let house = House::new("remote", slow);
    let mut line = Line::to(&house.run());
    line.until_all_alive();
    let beats = || house.fakes[0].play.lock().unwrap().beats;
    let before = beats();
    assert_eq!(line.ask("SUSPECT a1"), Reply::Ok(vec![]));
    until("it is beaten", || beats() > before);
}

#[test]
fn a_killed_master_remembers_tables_and_disks() {
    let house = House::new("remote", BEATS);
    let process = house.process();
    let mut line = Line::to(&house.config.master.address);
    line.until_all_alive();
    let before = line.routes();
    drop(process);
    let _process = house.process();
    let mut line = Line::to(&house.config.master.address);
    line.until_all_alive();
    until("every node is heard", || line.status().nodes.iter().all(|n| n.boot_id.is_some()));
    let status = line.status();
    assert_eq!(status.tablets, before.tablets, "nobody has sealed, so no epoch has changed");
    assert_eq!(status.nodes[0].store_uuid.as_deref(), Some("disk-of-a1"));
    assert_eq!(line.routes(), before);
}

#[test]
fn a_second_master_on_the_same_data_says_why_it_ends() {
    let house = House::new("remote", BEATS);
    let _process = house.process();
    let mut config = house.config.clone();
    config.master.address = free_address().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = penncloud::master::serve(&config, listener, SECRET.into());
    assert!(matches!(refused, Err(Error::Config(why)) if why.contains("another master")));
}

#[test]
fn with_auth_always_nothing_is_answered_before_the_handshake() {
    let house = House::new("always", BEATS);
    let address = house.run();
    for word in ["PING", "STATUS", "WHERE alice", "@GETROUTES 0", "SHUTDOWN a1"] {
        assert!(matches!(Line::to(&address).ask(word), Reply::Error(Error::Denied(_))), "{word}");
    }
    let mut line = Line::to(&address);
    assert!(prove(&mut line.from, &mut line.stream, "another secret").is_err());
    let mut line = Line::to(&address);
    prove(&mut line.from, &mut line.stream, SECRET).unwrap();
    assert_eq!(line.ask("PING"), Reply::Pong);
}

#[test]
fn bad_input_is_answered_or_cut_off_and_the_master_lives_on() {
    let house = House::new("remote", BEATS);
    let address = house.run();
    let goes_on = ["NONSENSE", "WHERE", "WHERE a b", "GET a b", "PING x=1", "SUSPECT %FF"];
    let mut line = Line::to(&address);
    for bad in goes_on {
        assert!(matches!(line.ask(bad), Reply::Error(Error::Bad(_))), "{bad}");
    }
    assert_eq!(line.ask("PING"), Reply::Pong);
    let long = "x".repeat(1 << 20);
    let cut_off: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"@BEAT 18446744073709551615\n",
        b"PUT a b 99999999999\n",
        b"BATCH a 999999\n",
        b"\x16\x03\x01\x00\xff\x00\n",
        long.as_bytes(),
    ];
    for bad in cut_off {
        let mut line = Line::to(&address);
        let _ = line.stream.write_all(bad);
        line.stream.close_write();
        let _ = line.from.read_to_end(&mut Vec::new());
        assert_eq!(Line::to(&address).ask("PING"), Reply::Pong);
    }
    let mut line = Line::to(&address);
    line.say(Request::new(Command::Ping).to_bytes().repeat(100));
    for _ in 0..100 {
        assert_eq!(read_reply(&mut line.from, false).unwrap(), Reply::Pong, "pipelined");
    }
    assert!(line.text("HELP").contains("WHERE <owner>"));
    line.say("QUIT\n");
    assert_eq!(line.from.read_to_end(&mut Vec::new()).unwrap(), 0, "closed without a word");
}
