//! Hosts of one's own: network namespaces, joined to one switch by veth pairs, whose packets are lost and refused by
//! iptables and whose cables are pulled.
//!
//! The namespaces have no names: they are there for as long as this process holds them open or somebody runs in
//! them, and all that was made in them goes with them, whatever ends the test. The machine's own network is left
//! as it is.
//!
//! Every rule stands in the chain INPUT of who receives: who sends does not learn that nothing arrives.

use super::{command, run};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

/// Begins the hosts' addresses.
const NETWORK: &str = "10.77.0";
/// The interface of each host.
const INTERFACE: &str = "eth0";
/// The bridge of the switch.
const BRIDGE: &str = "bridge0";

/// What happens to the packets that one host gets from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// They are lost.
    All,
    /// So many in a hundred are lost.
    Percent(u8),
    /// Those are lost in which this text stands.
    With(&'static str),
    /// They are answered by a reset.
    Reset,
}

/// Hosts and the switch that joins them.
pub struct Hosts {
    hosts: Vec<Host>,
    switch: Namespace,
}

struct Host {
    name: String,
    address: String,
    namespace: Namespace,
}

/// A network namespace that is held open.
struct Namespace(File);

impl Hosts {
    /// Hosts with these names; why there can be none on this machine.
    pub fn new(names: &[&str]) -> Result<Hosts, String> {
        for needed in ["unshare", "ip", "iptables"] {
            command(needed).ok_or(format!("there is no command {needed}"))?;
        }
        let switch = Namespace::new()?;
        switch.ip(&format!("link add name {BRIDGE} type bridge"))?;
        switch.ip(&format!("link set dev {BRIDGE} up"))?;
        let hosts = (1..).zip(names).map(|(number, name)| Host::new(&switch, number, name));
        let hosts: Vec<Host> = hosts.collect::<Result<_, _>>()?;
        let hosts = Hosts { hosts, switch };
        let probes = [Loss::All, Loss::Percent(1), Loss::With("x"), Loss::Reset];
        probes.iter().try_for_each(|probe| hosts.add_rule(names[0], names[0], *probe))?;
        hosts.heal();
        Ok(hosts)
    }

    /// Names of all hosts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| host.name.as_str())
    }

    /// The IP address of a host.
    pub fn address(&self, name: &str) -> &str {
        &self.host(name).address
    }

    /// Does something on a host, by a thread of its own; what that starts stays there.
    pub fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        self.host(name).namespace.within(work)
    }

    /// Moves the calling thread to a host for good.
    pub fn enter(&self, name: &str) {
        self.host(name).namespace.enter();
    }

    /// Sets what is lost of what one host sends to another.
    pub fn lose(&self, from: &str, to: &str, loss: Loss) {
        self.add_rule(from, to, loss).expect("rules of every kind can be added");
    }

    /// Sets what is lost between two hosts, in both directions.
    pub fn lose_between(&self, one: &str, other: &str, loss: Loss) {
        self.lose(one, other, loss);
        self.lose(other, one, loss);
    }

    /// Pulls a host's cable at the switch: the host sees that it has none.
    pub fn unplug(&self, name: &str) {
        self.switch.set_link(&port(name), "down");
    }

    /// Takes a host's interface down: it has no routes any more.
    pub fn take_down(&self, name: &str) {
        self.host(name).namespace.set_link(INTERFACE, "down");
    }

    /// No faults any more.
    pub fn heal(&self) {
        for host in &self.hosts {
            host.namespace.run("iptables -w -F INPUT").expect("rules can be removed");
            host.namespace.set_link(INTERFACE, "up");
            self.switch.set_link(&port(&host.name), "up");
        }
    }

    fn add_rule(&self, from: &str, to: &str, loss: Loss) -> Result<(), String> {
        let what = match loss {
            Loss::All => "-j DROP".into(),
            Loss::Percent(percent) => {
                format!("-m statistic --mode random --probability 0.{percent:02} -j DROP")
            }
            Loss::With(text) => format!("-p tcp -m string --algo bm --string {text} -j DROP"),
            Loss::Reset => "-p tcp -j REJECT --reject-with tcp-reset".into(),
        };
        let (from, to) = (&self.host(from).address, &self.host(to).namespace);
        to.run(&format!("iptables -w -A INPUT -i {INTERFACE} -s {from} {what}"))
    }

    fn host(&self, name: &str) -> &Host {
        let found = self.hosts.iter().find(|host| host.name == name);
        found.unwrap_or_else(|| panic!("no host {name}"))
    }
}

impl Host {
    fn new(switch: &Namespace, number: usize, name: &str) -> Result<Host, String> {
        let (address, port) = (format!("{NETWORK}.{number}"), port(name));
        let namespace = Namespace::new()?;
        let path = namespace.path();
        switch.ip(&format!("link add name {port} type veth peer name {INTERFACE} netns {path}"))?;
        switch.ip(&format!("link set dev {port} master {BRIDGE} up"))?;
        namespace.ip("link set dev lo up")?;
        namespace.ip(&format!("address add {address}/24 dev {INTERFACE}"))?;
        namespace.ip(&format!("link set dev {INTERFACE} up"))?;
        Ok(Host { name: name.into(), address, namespace })
    }
}

/// The switch's port of a host.
fn port(name: &str) -> String {
    format!("to-{name}")
}

impl Namespace {
    /// A new one; why there can be none. A process makes it, and ends once it is held open here.
    fn new() -> Result<Namespace, String> {
        let mut maker = Command::new("unshare");
        maker.args(["--net", "sh", "-c", "echo ready; read rest"]);
        maker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut maker = maker.spawn().map_err(|e| e.to_string())?;
        let mut line = String::new();
        let said = maker.stdout.take().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("the maker says something or ends");
        let file = File::open(format!("/proc/{}/ns/net", maker.id()));
        drop(maker.stdin.take());
        let mut why = String::new();
        let _ = maker.stderr.take().expect("a pipe").read_to_string(&mut why);
        let _ = maker.wait();
        match line.as_str() {
            "ready\n" => Ok(Namespace(file.map_err(|e| e.to_string())?)),
            _ => Err(format!("no network namespace: {}", why.trim())),
        }
    }

    /// A path by which other processes find it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn enter(&self) {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.0.as_fd(), kind).expect("who made it may enter it");
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let worker = || {
            self.enter();
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(worker).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn ip(&self, order: &str) -> Result<(), String> {
        self.run(&format!("ip {order}"))
    }

    fn set_link(&self, link: &str, state: &str) {
        self.ip(&format!("link set dev {link} {state}")).expect("the link was made");
    }

    /// Runs a command of words without spaces in it.
    fn run(&self, line: &str) -> Result<(), String> {
        let (program, words) = line.split_once(' ').expect("a command has words");
        let mut command = Command::new(program);
        command.args(words.split(' '));
        self.within(|| run(&mut command)).map_err(|why| format!("{line}: {why}"))
    }
}
