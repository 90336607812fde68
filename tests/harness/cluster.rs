//! A cluster of real processes in a temporary directory.

use super::configuration;
use super::disk::{self, Disk};
use super::hosts::Hosts;
use super::ports::{self, Ports};
use super::proxy::Network;
use super::{PATIENCE, Text, eventually};
use penncloud::client::Client;
use penncloud::config::Config;
use penncloud::protocol::cluster::{Routes, TabletRoute};
use penncloud::protocol::command::{Command as Request, Peer};
use penncloud::protocol::reply::Reply;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Tries to start on other ports when somebody took one in between.
const STARTS: usize = 3;
/// Owners that are asked for: enough to meet every tablet.
const PROBES: usize = 64;
/// Where a process listens on a host of its own.
const HOST_PORT: u16 = 5000;
/// Lines of each log that a failed test shows.
const LOG_LINES: usize = 30;

/// Its processes are killed when it is dropped, and also when the test process ends in any other way.
pub struct Cluster {
    dir: PathBuf,
    config: Config,
    children: Mutex<BTreeMap<String, Child>>,
    /// For processes by name: variables of their environment.
    variables: Mutex<BTreeMap<String, (&'static str, String)>>,
    guard: Mutex<Guard>,
    network: Option<Network>,
    hosts: Option<Arc<Hosts>>,
    _ports: Option<Ports>,
}

/// What a cluster is made of: its configuration, for a directory and the addresses of its processes.
type Shape = fn(&Path, &[String]) -> String;

/// Where the processes of a cluster are.
enum Place {
    /// On so many ports of this machine.
    Ports(usize),
    /// There too; they reach one another through proxies.
    Proxies(usize),
    /// Each process of the store on a host of its name.
    Hosts(Arc<Hosts>),
}

impl Cluster {
    /// Starts all processes and waits until they answer: a master, two groups of two backends, two
    /// frontends, two SMTP servers (the second with tight limits), a balancer, a console.
    pub fn start() -> Cluster {
        Cluster::start_with(|_| {})
    }

    /// [`Cluster::start`] with a changed configuration.
    pub fn start_with(change: impl Fn(&mut String)) -> Cluster {
        let place = Place::Ports(configuration::WHOLE);
        Cluster::start_at(&place, configuration::whole, &[], change)
    }

    /// Starts the store alone, with a changed configuration: a master `m1` and one group of three backends,
    /// `a1` to `a3`, which reach one another through [`Cluster::network`]; waits until each tablet has three copies.
    pub fn start_store(change: impl Fn(&mut String)) -> Cluster {
        Cluster::start_store_on(&[], change)
    }

    /// [`Cluster::start_store`] with processes that keep their data on disks of their own.
    pub fn start_store_on(disks: &[(&str, &Disk)], change: impl Fn(&mut String)) -> Cluster {
        let place = Place::Proxies(configuration::STORE.len());
        let cluster = Cluster::start_at(&place, configuration::store, disks, change);
        cluster.wait_in_sync();
        cluster
    }

    /// Starts the store alone, each process on a host of its name. The calling thread, and each that uses the
    /// cluster, must have entered one.
    pub fn start_store_at(hosts: Arc<Hosts>) -> Cluster {
        Cluster::start_at(&Place::Hosts(hosts), configuration::store, &[], |_| {})
    }

    fn start_at(
        place: &Place,
        shape: Shape,
        disks: &[(&str, &Disk)],
        change: impl Fn(&mut String),
    ) -> Cluster {
        let mut last = String::new();
        for _ in 0..STARTS {
            match Cluster::try_start(place, shape, disks, &change) {
                Ok(cluster) => return cluster,
                Err(why) => last = why,
            }
        }
        panic!("the cluster does not start: {last}");
    }

    /// The cluster that tests share which neither stop a process nor need an empty store. It lives as
    /// long as the test process.
    pub fn shared() -> Shared {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        Shared(SHARED.get_or_init(Cluster::start))
    }

    fn try_start(
        place: &Place,
        shape: Shape,
        disks: &[(&str, &Disk)],
        change: &impl Fn(&mut String),
    ) -> Result<Cluster, String> {
        let dir = tempfile::tempdir().expect("a temporary directory").keep();
        let (addresses, ports) = place.addresses();
        let mut text = shape(&dir, &addresses);
        change(&mut text);
        fs::write(dir.join("cluster.toml"), &text).expect("the configuration can be written");
        let config = Config::parse(&text).expect("a good configuration");
        penncloud::tools::format::run(&config).expect("secrets can be made");
        disks.iter().for_each(|(name, disk)| disk::link(disk, &config.data_dir(name)));
        let guard = Mutex::new(Guard::start(&dir));
        let (network, hosts) = match place {
            Place::Ports(_) => (None, None),
            Place::Proxies(_) => (Some(network_of(&config, &dir, &text)), None),
            Place::Hosts(hosts) => (None, Some(hosts.clone())),
        };
        let (children, variables) = (Mutex::default(), Mutex::default());
        let cluster =
            Cluster { dir, config, children, variables, guard, network, hosts, _ports: ports };
        cluster.processes().iter().for_each(|(name, ..)| cluster.spawn(name));
        for (name, ..) in cluster.processes() {
            cluster.wait_ready(&name)?;
        }
        cluster.wait_in_service();
        Ok(cluster)
    }

    /// The proxies between the processes of [`Cluster::start_store`].
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("only the store alone has a network")
    }

    /// The hosts of [`Cluster::start_store_at`].
    pub fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_deref()
    }

    /// Kills a process with SIGKILL.
    pub fn kill(&self, name: &str) {
        let mut child = self.take(name);
        child.kill().expect("an own child can be killed");
        self.reap(child);
    }

    /// Stops a process with SIGSTOP: it is there, and does nothing until [`Cluster::resume`].
    pub fn pause(&self, name: &str) {
        self.signal(name, Signal::STOP);
    }

    /// Lets a paused process go on.
    pub fn resume(&self, name: &str) {
        self.signal(name, Signal::CONT);
    }

    fn signal(&self, name: &str, signal: Signal) {
        let children = self.children.lock().unwrap();
        let child = children.get(name).unwrap_or_else(|| panic!("{name} does not run"));
        kill_process(Pid::from_child(child), signal).expect("an own child");
    }

    /// Ends a process with SIGTERM and waits for its end; whether it ended with success.
    pub fn stop(&self, name: &str) -> bool {
        self.signal(name, Signal::TERM);
        self.wait_end(name) == Some(0)
    }

    /// Waits until a process ends by itself; its exit code.
    pub fn wait_end(&self, name: &str) -> Option<i32> {
        let mut child = self.take(name);
        let status = eventually(&format!("{name} ends"), || child.try_wait().expect("a child"));
        self.reap(child);
        status.code()
    }

    /// Sets a variable of a process's environment, from its next start on.
    pub fn set_variable(&self, name: &str, variable: &'static str, value: &str) {
        self.variables.lock().unwrap().insert(name.into(), (variable, value.into()));
    }

    /// Starts a process that was killed or stopped, and waits until it answers.
    pub fn start_again(&self, name: &str) {
        self.spawn(name);
        if let Err(why) = self.wait_ready(name) {
            panic!("{why}");
        }
    }

    /// `host:port` of a process.
    pub fn address(&self, name: &str) -> String {
        self.find(name).2
    }

    /// Connects to a master or backend, as somebody who belongs to the cluster; each step within a time.
    pub fn connect_within(&self, name: &str, time: Duration) -> io::Result<Text> {
        let mut text = Text::connect_within(&self.address(name), time)?;
        text.prove(&self.config.secrets().expect("secrets were made").cluster)?;
        Ok(text)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Path of the configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("cluster.toml")
    }

    /// The configuration file that a process reads.
    fn config_path_of(&self, name: &str) -> PathBuf {
        match &self.network {
            Some(_) => self.dir.join(format!("{name}.toml")),
            None => self.config_path(),
        }
    }

    /// Names of the backends.
    pub fn backends(&self) -> Vec<String> {
        self.config.backends().map(|b| b.name.clone()).collect()
    }

    /// Process id of a process that runs.
    pub fn pid(&self, name: &str) -> u32 {
        self.children.lock().unwrap()[name].id()
    }

    /// The last lines of every log.
    pub fn logs(&self) -> String {
        let one = |(name, ..): &(String, String, String)| {
            let text = self.log(name);
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            lines[from..].iter().map(|line| format!("{name:8} {line}\n")).collect::<String>()
        };
        self.processes().iter().map(one).collect()
    }

    /// All that a process has logged.
    pub fn log(&self, name: &str) -> String {
        let text = fs::read(self.log_path(name)).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn processes(&self) -> Vec<(String, String, String)> {
        let owned = |(name, role, address): (&str, &str, &str)| {
            (name.to_string(), role.to_string(), address.to_string())
        };
        self.config.processes().into_iter().map(owned).collect()
    }

    /// What the master says of the tablets.
    pub fn routes(&self) -> Routes {
        let client = Client::new(&self.config).expect("the cluster has secrets");
        let peer = Peer { verb: "@GETROUTES".into(), words: Vec::new(), payload: Vec::new() };
        match client.call_at(&self.config.master.address, Request::Peer(peer)) {
            Ok(Reply::Peer { payload, .. }) => serde_json::from_slice(&payload).expect("routes"),
            other => panic!("a strange answer: {other:?}"),
        }
    }

    /// A node's own copy of a row, if it holds one: a line for each column, with its version and value.
    pub fn copy_at(&self, name: &str, row: &str) -> io::Result<Option<Vec<String>>> {
        let mut store = self.connect_within(name, PATIENCE)?;
        let (mut copy, mut after) = (Vec::new(), String::new());
        loop {
            let head = store.ask(format!("SCAN {row} values=1 local=1{after}"))?;
            let Some(head) = head.strip_prefix("COLUMNS ") else { return Ok(None) };
            let columns = head.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
            for _ in 0..columns {
                let line = store.line()?;
                let words: Vec<&str> = line.split(' ').collect();
                after = format!(" after={}", words[0]);
                let len = words[2].parse().expect("a length");
                let big = line.ends_with(" big=1");
                let value = if big { Vec::new() } else { store.bytes(len)? };
                copy.push(format!("{line} {}", String::from_utf8_lossy(&value)));
            }
            if head.ends_with("more=0") {
                return Ok(Some(copy));
            }
        }
    }

    /// Waits until every tablet answers through every backend.
    pub fn wait_in_service(&self) {
        for name in self.backends() {
            eventually(&format!("all tablets answer through {name}"), || {
                let mut store = self.connect_within(&name, PATIENCE).ok()?;
                let refused = |answer: std::io::Result<String>| {
                    answer.map_or(true, |line| line.starts_with("RETRY"))
                };
                let ready = (0..PROBES).all(|i| !refused(store.ask(format!("GET probe{i} c"))));
                ready.then_some(())
            });
        }
    }

    /// Waits until every member of every tablet is in sync.
    pub fn wait_in_sync(&self) {
        let is_whole = |tablet: &TabletRoute| {
            let isr: BTreeSet<&String> = tablet.isr.iter().collect();
            tablet.epoch > 0 && isr == tablet.members.iter().collect()
        };
        eventually("all are in sync", || self.routes().tablets.iter().all(is_whole).then_some(()));
    }

    fn find(&self, name: &str) -> (String, String, String) {
        let found = self.processes().into_iter().find(|p| p.0 == name);
        found.unwrap_or_else(|| panic!("no process {name}"))
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    fn spawn(&self, name: &str) {
        let (_, role, _) = self.find(name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(name));
        let log: File = log.expect("a log can be opened");
        let mut command = Command::new(env!("CARGO_BIN_EXE_penncloud"));
        command.arg(role).arg("--config").arg(self.config_path_of(name)).args(["--name", name]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(self.variables.lock().unwrap().get(name).cloned());
        let child = match &self.hosts {
            Some(hosts) => hosts.within(name, || command.spawn()),
            None => command.spawn(),
        };
        let child = child.expect("the program can be started");
        self.guard.lock().unwrap().watch(child.id());
        self.children.lock().unwrap().insert(name.to_string(), child);
    }

    fn take(&self, name: &str) -> Child {
        let child = self.children.lock().unwrap().remove(name);
        child.unwrap_or_else(|| panic!("{name} does not run"))
    }

    fn reap(&self, mut child: Child) {
        self.guard.lock().unwrap().forget(child.id());
        let _ = child.wait();
    }

    fn wait_ready(&self, name: &str) -> Result<(), String> {
        let (_, role, address) = self.find(name);
        let end = Instant::now() + PATIENCE;
        while !answers(&role, &address) {
            let mut children = self.children.lock().unwrap();
            let ended = children.get_mut(name).is_none_or(|c| c.try_wait().expect("").is_some());
            drop(children);
            if ended || Instant::now() > end {
                let how = if ended { "ended" } else { "does not answer" };
                return Err(format!("{name} {how}; logs:\n{}", self.logs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let children = std::mem::take(&mut *self.children.lock().unwrap());
        for (_, mut child) in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The shared cluster; shows its logs when the test that holds it fails.
pub struct Shared(&'static Cluster);

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.logs());
        }
    }
}

/// A shell that outlives the test process by a moment, whatever ends it: it kills the processes that are
/// left (after a look at their command lines) and removes the directory.
struct Guard {
    shell: Child,
}

const GUARD: &str = r#"
trap '' INT TERM HUP
pids=
while read -r op pid; do
    case $op in
    +) pids="$pids $pid " ;;
    -) pids=${pids%" $pid "*}${pids##*" $pid "} ;;
    esac
done
for pid in $pids; do
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "--config $1/" && kill -9 "$pid"
done
rm -rf "$1"
"#;

impl Guard {
    fn start(dir: &Path) -> Guard {
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD).arg("sh").arg(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Guard { shell: command.spawn().expect("there is a shell") }
    }

    fn watch(&mut self, pid: u32) {
        self.tell(format!("+ {pid}\n"));
    }

    fn forget(&mut self, pid: u32) {
        self.tell(format!("- {pid}\n"));
    }

    fn tell(&mut self, line: String) {
        let pipe = self.shell.stdin.as_mut().expect("the guard's input is a pipe");
        pipe.write_all(line.as_bytes()).expect("the guard reads");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shell.stdin = None;
        let _ = self.shell.wait();
    }
}

impl Place {
    /// An address for each process; and the ports of this machine among them.
    fn addresses(&self) -> (Vec<String>, Option<Ports>) {
        match self {
            Place::Ports(n) | Place::Proxies(n) => {
                let ports = ports::take(*n);
                (ports.addresses(), Some(ports))
            }
            Place::Hosts(hosts) => {
                let address = |name| format!("{}:{HOST_PORT}", hosts.address(name));
                (configuration::STORE.map(address).into(), None)
            }
        }
    }
}

/// The proxies of a cluster; and for each process a configuration file that leads it through its own.
fn network_of(config: &Config, dir: &Path, text: &str) -> Network {
    let owned = |(name, _, address): (&str, _, &str)| (name.to_string(), address.to_string());
    let processes: Vec<(String, String)> = config.processes().into_iter().map(owned).collect();
    let network = Network::start(&processes);
    for (name, _) in &processes {
        let own = format!("{text}{}", network.via(name));
        fs::write(dir.join(format!("{name}.toml")), own).expect("a configuration can be written");
    }
    network
}

/// Whether a process speaks its protocol.
fn answers(role: &str, address: &str) -> bool {
    first_line(role, address).is_ok_and(|line| {
        let line = line.trim_end();
        ["PONG", "DENIED", "HTTP/1.1 200", "HTTP/1.1 30", "220 "]
            .iter()
            .any(|p| line.starts_with(p))
    })
}

fn first_line(role: &str, address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    match role {
        "master" | "backend" => stream.write_all(b"PING\n")?,
        "smtp" => {}
        _ => stream.write_all(
            format!("GET /ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )?,
    }
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
