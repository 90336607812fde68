//! One web process of a cluster of which nothing else runs: what HTTP does needs no store.

use crate::harness::{configuration, eventually, ports};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};

/// Killed when this is dropped.
pub struct Process {
    pub address: String,
    child: Child,
    log: PathBuf,
    _ports: ports::Ports,
    _dir: tempfile::TempDir,
}

impl Process {
    /// Starts `name`, of this role, under a configuration with an `[http]` section of these lines. `limits` is for the
    /// shell that becomes the process: `ulimit -n 64;`.
    pub fn start(role: &str, name: &str, http: &str, limits: &str) -> Process {
        let (dir, ports) =
            (tempfile::tempdir().expect("a directory"), ports::take(configuration::WHOLE));
        let mut text = configuration::whole(dir.path(), &ports.addresses());
        text += &format!("\n[http]\n{http}\n");
        let config = penncloud::config::Config::parse(&text).expect("a good configuration");
        penncloud::tools::format::run(&config).expect("secrets can be made");
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), readable).expect("an own directory");
        let (path, log) = (dir.path().join("cluster.toml"), dir.path().join("log"));
        fs::write(&path, &text).expect("the configuration can be written");
        let said = File::create(&log).expect("a log");
        let child = Command::new("sh")
            .args(["-c", &format!("{limits} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_penncloud")])
            .args([role, "--name", name, "--config"])
            .arg(&path)
            .stderr(said)
            .spawn()
            .expect("a shell");
        let all = config.processes();
        let found = all.iter().find(|(n, ..)| *n == name).expect("a process of this name");
        let address = found.2.to_string();
        let process = Process { address, child, log, _ports: ports, _dir: dir };
        eventually("the process listens", || TcpStream::connect(&process.address).ok());
        process
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("an own child");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Bytes that it has resident.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        kib.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
