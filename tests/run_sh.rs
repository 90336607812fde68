//! `run.sh`, as a person uses it: what it says, and what it does when it cannot.

use crate::harness::ports::{self, Ports};
use crate::harness::{PATIENCE, Text, configuration, eventually};
use penncloud::config::Config;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A cluster of its own, which `run.sh` starts and stops.
struct House {
    dir: tempfile::TempDir,
    config: Config,
    _ports: Ports,
}

/// What a command said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let ports = ports::take(configuration::WHOLE);
        let text = configuration::whole(dir.path(), &ports.addresses());
        std::fs::write(dir.path().join("cluster.toml"), &text).unwrap();
        House { dir, config: Config::parse(&text).unwrap(), _ports: ports }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("run.sh"));
        // Relative to where it is called, not to where it stands.
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("PENNCLOUD_CONFIG", "cluster.toml");
        command.env("PENNCLOUD_BIN", env!("CARGO_BIN_EXE_penncloud")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments))
    }

    fn does(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert!(said.ok, "{arguments:?}: {} {}", said.out, said.err);
        said.out
    }

    /// Runs a command that cannot be done; the one sentence that it says.
    fn cannot(&self, arguments: &[&str]) -> String {
        one_sentence(self.run(arguments))
    }

    fn address(&self, name: &str) -> &str {
        self.config.processes().into_iter().find(|p| p.0 == name).unwrap().2
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.run(&["stop"]);
    }
}

fn said(mut command: Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

fn one_sentence(said: Said) -> String {
    assert!(!said.ok, "{}", said.out);
    assert_eq!(said.err.lines().count(), 1, "{:?}", said.err);
    said.err.trim_end().strip_prefix("run.sh: ").expect("it says who speaks").to_string()
}

#[test]
fn a_cluster_is_started_looked_at_killed_stopped_and_cleaned() {
    let house = House::new();
    assert_eq!(house.cannot(&["stop"]), "PennCloud is not running");
    assert!(house.cannot(&["clean"]).contains("nothing to clean"));

    let first = house.does(&["start"]);
    assert!(first.contains("user admin, password "), "said once: {first}");
    for name in ["lb", "console", "s1", "a1", "m1"] {
        let address = house.address(name).replace("127.0.0.1:", "");
        assert!(first.contains(&address), "{name} at {address}: {first}");
    }
    let smtp = &house.config.smtps[0];
    let (starttls, tls) = (&smtp.submission, &smtp.submissions);
    let submission = format!("; mail programs send by {starttls} (STARTTLS) or {tls} (TLS)\n");
    assert!(first.contains(&submission), "{first}");
    assert!(house.cannot(&["start"]).starts_with("PennCloud is running already"));
    assert!(house.cannot(&["clean"]).starts_with("PennCloud is running"));
    std::fs::copy(house.dir.path().join("cluster.toml"), house.dir.path().join("other.toml"))
        .unwrap();
    for command in ["clean", "stop"] {
        let mut other = house.command(&[command]);
        other.env("PENNCLOUD_CONFIG", "other.toml");
        let refused = one_sentence(said(other));
        assert!(refused.starts_with("another configuration has started "), "{refused}");
    }
    assert_eq!(house.cannot(&["stop", "a1", "a2"]), "one process at a time, not a1 a2");
    let status = house.does(&["status"]);
    assert_eq!(status.matches("  runs\n").count(), 11);
    assert!(status.contains("postmaster@penn.test goes to the user the-postmaster"), "{status}");
    let mut store = Text::connect(house.address("a1")).unwrap();
    store.put("alice", "note", b"hello").unwrap();

    assert!(house.does(&["kill", "a1"]).contains("is killed"));
    assert_eq!(house.cannot(&["kill", "a1"]), "a1 is not running");
    let status = house.run(&["status"]);
    assert!(status.out.contains("does not run") && status.err.contains("1 of 11"));
    house.does(&["start", "a1"]);
    house.does(&["restart", "f1"]);
    house.does(&["stop", "f1"]);
    assert_eq!(house.cannot(&["stop", "f1"]), "f1 is not running");
    assert!(house.does(&["logs", "s1"]).lines().all(|line| line.starts_with("s1 ")));
    assert!(house.does(&["logs"]).contains("a1       "));

    house.does(&["stop"]);
    assert!(house.run(&["status"]).err.contains("11 of 11"));
    let again = house.does(&["start"]);
    assert!(!again.contains("shown this once"), "{again}");
    let mut store = Text::connect(house.address("a2")).unwrap();
    assert_eq!(store.get("alice", "note").unwrap().unwrap().1, b"hello");
    house.does(&["restart"]);
    house.does(&["stop"]);
    house.does(&["clean"]);
    assert!(!house.dir.path().join("data").exists());
}

#[test]
fn a_node_that_an_admin_shut_down_is_named_and_not_waited_for() {
    let house = House::new();
    house.does(&["start"]);
    let mut master = Text::connect(house.address("m1")).unwrap();
    eventually("each tablet has more than one copy in sync", || {
        let lines = master.lines("STATUS").unwrap();
        let in_sync = |line: &String| {
            let names = line.split_once("in sync ")?.1.split_once(',')?.0.to_string();
            Some(names.split(' ').count())
        };
        let copies: Vec<usize> = lines.iter().filter_map(in_sync).collect();
        (!copies.is_empty() && copies.iter().all(|copies| *copies > 1)).then_some(())
    });
    assert_eq!(master.ask("SHUTDOWN b1").unwrap(), "OK");
    house.does(&["kill", "a1"]);
    let said = house.run(&["start"]);
    let command = format!("WAKEUP b1\\n' | nc {}", house.address("m1").replace(':', " "));
    assert!(said.ok && said.err.starts_with("b1 is shut down: "), "{}", said.err);
    assert!(said.err.contains(&command) && said.err.lines().count() == 1, "{}", said.err);
    assert_eq!(house.does(&["status"]).matches("  runs\n").count(), 11);
    assert_eq!(master.ask("WAKEUP b1").unwrap(), "OK");
}

#[test]
fn in_the_foreground_it_shows_the_logs_and_ctrl_c_stops_everything() {
    let house = House::new();
    let mut child = house.command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    wait_for(&mut lines, "Ctrl-C stops it.");
    assert!(house.cannot(&[]).starts_with("PennCloud is running already"));
    house.does(&["kill", "f1"]);
    wait_for(&mut lines, "f1 has ended; ./run.sh start f1 starts it again");
    house.does(&["start", "f1"]);
    wait_for(&mut lines, "f1       ");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    wait_for(&mut lines, "Stopped.");
    assert!(ended_well(&mut child));
    assert_eq!(house.cannot(&["stop"]), "PennCloud is not running");
}

fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, wanted: &str) {
    let end = Instant::now() + PATIENCE;
    let found = lines.map_while(Result::ok).find(|line| line.starts_with(wanted));
    assert!(found.is_some() && Instant::now() < end, "{wanted:?} is not said");
}

fn ended_well(child: &mut Child) -> bool {
    eventually("run.sh ends", || child.try_wait().unwrap()).success()
}

#[test]
fn a_broken_disk_is_named_and_the_others_serve() {
    let house = House::new();
    house.does(&["start"]);
    house.does(&["stop"]);
    let format = house.dir.path().join("data/a1/format");
    std::fs::write(&format, "nonsense").unwrap();
    let said = house.run(&["start"]);
    assert!(!said.ok && said.out.contains("PennCloud runs: "), "{}", said.out);
    assert!(said.err.starts_with("run.sh: a1 ended at its start: corrupt: "), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let status = house.run(&["status"]);
    assert_eq!(status.out.matches("  runs\n").count(), 10, "{}", status.out);
    assert_eq!(Text::connect(house.address("a2")).unwrap().ask("GET alice c").unwrap(), "NOTFOUND");
}

#[test]
fn a_taken_port_is_named_with_who_has_it_and_nothing_is_left_running() {
    let house = House::new();
    let address = house.address("s2");
    let taken = TcpListener::bind(address).unwrap();
    let why = house.cannot(&["start"]);
    let expected = format!("s2 cannot start: process {} (", std::process::id());
    assert!(why.starts_with(&expected) && why.contains(address), "{why}");
    let log = house.dir.path().join("data/log/m1.log");
    assert!(!log.exists(), "ports are looked at before anything is launched");
    assert_eq!(house.cannot(&["stop"]), "PennCloud is not running");
    drop(taken);
    house.does(&["start"]);
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let house = House::new();
    assert!(house.cannot(&["nonsense"]).contains("no command nonsense"));
    assert!(house.cannot(&["start", "zz"]).contains("no process named zz"));
    assert!(house.cannot(&["kill"]).contains("which process"));
    assert!(house.cannot(&["logs"]).contains("no logs"));
    let with = |name: &str, value: &str| {
        let mut command = house.command(&["start"]);
        command.env(name, value);
        one_sentence(said(command))
    };
    assert!(with("PENNCLOUD_BIN", "/nowhere/penncloud").contains("no program"));
    assert!(with("PENNCLOUD_CONFIG", "nowhere.toml").contains("cannot read the configuration"));
    assert!(with("PENNCLOUD_PROFILE", "fast").contains("release or dev"));
    let text = std::fs::read_to_string(house.dir.path().join("cluster.toml")).unwrap();
    let file = house.dir.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let data = format!("{}/data", file.display());
    let unwritable = text.replace(&format!("{}/data", house.dir.path().display()), &data);
    std::fs::write(house.dir.path().join("unwritable.toml"), unwritable).unwrap();
    assert!(with("PENNCLOUD_CONFIG", "unwritable.toml").contains("cannot make the data directory"));
}

#[test]
fn a_key_that_nobody_knows_is_named_with_its_line() {
    let house = House::new();
    let path = house.dir.path().join("cluster.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("[store]", "[store]\ncolour = 1");
    std::fs::write(&path, text).unwrap();
    let said = house.run(&["start"]);
    assert!(!said.ok && said.err.contains("colour") && said.err.contains("line "), "{}", said.err);
}

#[test]
fn a_machine_without_rust_or_a_compiler_is_told_what_to_install() {
    let house = House::new();
    let bin = house.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let link = |name: &str| {
        let found = crate::harness::command(name).unwrap();
        std::os::unix::fs::symlink(found, bin.join(name)).unwrap();
    };
    ["bash", "env", "dirname", "readlink", "realpath"].iter().for_each(|name| link(name));
    let start = || {
        let mut command = house.command(&["start"]);
        command.env("PATH", &bin).env("HOME", house.dir.path()).env_remove("PENNCLOUD_BIN");
        one_sentence(said(command))
    };
    assert!(start().contains("Rust is not installed"));
    link("cargo");
    assert!(start().contains("build-essential"));
    link("cc");
    assert!(start().contains("libssl-dev"));
}

#[test]
fn help_lists_every_command() {
    let house = House::new();
    let mut help = String::new();
    let mut child = house.command(&["help"]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut help).unwrap();
    assert!(ended_well(&mut child));
    for command in ["start", "stop", "restart", "status", "logs", "kill", "clean", "test"] {
        assert!(help.contains(&format!("./run.sh {command}")), "{command}");
    }
}
