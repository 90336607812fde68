//! Processes that the bench starts itself, and the directory in which they keep their data.

use crate::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a process may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Lowest port that is tried.
const PORT_MIN: u32 = 10_000;
/// First port of the range from which the system gives ports to outgoing connections, as usual: one of those could
/// take the port of a process that is just down.
const PORT_END: u32 = 32_768;

/// Processes and their directory. All are killed, and the directory is removed, when this is dropped or the bench is
/// told to end.
pub struct Children {
    running: Arc<Mutex<Running>>,
    dir: PathBuf,
}

struct Running {
    dir: PathBuf,
    children: BTreeMap<String, Child>,
}

impl Children {
    /// None yet, in a new directory below another.
    pub fn new(below: &Path) -> Result<Children> {
        let name = format!("penncloud-bench-{}", uuid::Uuid::new_v4().simple());
        let dir = std::path::absolute(below)?.join(name);
        let made = fs::create_dir(&dir);
        made.map_err(|e| Error::from(e).during(format_args!("make {}", dir.display())))?;
        let running = Running { dir: dir.clone(), children: BTreeMap::new() };
        let running = Arc::new(Mutex::new(running));
        end_with_the_bench(running.clone())?;
        Ok(Children { running, dir })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a process; what it says goes into a file of its name.
    ///
    /// # Errors
    /// [`Error::NotFound`](ErrorKind::NotFound) of the kind `Io` if there is no such program.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<()> {
        let said = File::create(self.dir.join(format!("{name}.out")))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn()?;
        self.running().children.insert(name.into(), child);
        Ok(())
    }

    /// Kills a process with SIGKILL.
    pub fn kill(&self, name: &str) -> Result<()> {
        let child = self.running().children.remove(name);
        let mut child = child.ok_or_else(|| Error::bad(format_args!("{name} does not run")))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The most bytes that a process had resident, as the system says.
    pub fn most_resident(&self, name: &str) -> Result<u64> {
        let pid = self.running().children.get(name).map(Child::id);
        let pid = pid.ok_or_else(|| Error::bad(format_args!("{name} does not run")))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = kib.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| Error::corrupt("the system does not say VmHWM"))
    }

    /// The processor time that a process and its own children have taken, in ticks of 10 ms.
    pub fn processor_time(&self, name: &str) -> Result<Duration> {
        let pid = self.running().children.get(name).map(Child::id);
        let pid = pid.ok_or_else(|| Error::bad(format_args!("{name} does not run")))?;
        let below = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let pids = below.split_ascii_whitespace().map(String::from).chain([pid.to_string()]);
        pids.map(|pid| processor_time(&pid)).sum()
    }

    /// Waits until something works that needs all processes; an error if one of them ends first.
    pub fn await_work(&self, what: &str, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let Err(error) = work() else { return Ok(()) };
            if let Some(name) = self.ended()? {
                return Err(Error::retry(format_args!(
                    "{name} ended at its start: {}",
                    self.said(&name)
                )));
            }
            if Instant::now() > end {
                return Err(error.during(what));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn ended(&self) -> Result<Option<String>> {
        for (name, child) in &mut self.running().children {
            if child.try_wait()?.is_some() {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    /// The last line that a process said.
    fn said(&self, name: &str) -> String {
        let text = fs::read(self.dir.join(format!("{name}.out"))).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().last().unwrap_or_default().into()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().expect("a map is not left half-changed")
    }
}

/// Time in user and in kernel mode, as `/proc/<pid>/stat` says behind the name.
fn processor_time(pid: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

impl Running {
    fn end(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!("{} stays: {error}", self.dir.display());
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.running().end();
    }
}

/// Ends the processes when the bench is told to end, and the bench with them.
fn end_with_the_bench(running: Arc<Mutex<Running>>) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            running.lock().expect("a map is not left half-changed").end();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Free addresses on loopback, for processes that may be started again on the same one.
pub fn free_addresses<const N: usize>() -> Result<[String; N]> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    let (start, count) = (u32::from_le_bytes(random) % 20_000, PORT_END - PORT_MIN);
    let mut held = Vec::new();
    for i in 0..count {
        if held.len() == N {
            break;
        }
        let address = format!("127.0.0.1:{}", PORT_MIN + (start + i) % count);
        held.extend(crate::net::bind(&address).ok().map(|listener| (address, listener)));
    }
    let addresses: Vec<String> = held.into_iter().map(|(address, _)| address).collect();
    addresses.try_into().map_err(|_| Error::retry("there are not enough free ports"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_their_directory_go_with_the_bench() {
        let below = tempfile::tempdir().expect("a temporary directory");
        let children = Children::new(below.path()).expect("a directory");
        children.start("sleeper", Command::new("sleep").arg("600")).expect("started");
        let pid = children.running().children["sleeper"].id();
        drop(children);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(fs::read_dir(below.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_process_that_ends_at_its_start_says_why() {
        let below = tempfile::tempdir().expect("a temporary directory");
        let children = Children::new(below.path()).expect("a directory");
        let lame = "echo first; echo lame; exit 1";
        children.start("lame", Command::new("sh").args(["-c", lame])).expect("started");
        let waits = || Err(Error::retry("not yet"));
        let error = children.await_work("wait", waits).expect_err("it ended").to_string();
        assert!(error.contains("lame ended at its start: lame"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let below = tempfile::tempdir().expect("a temporary directory");
        let children = Children::new(below.path()).expect("a directory");
        let error = children.start("none", &mut Command::new("penncloud-no-such-program"));
        assert!(matches!(error, Err(Error::Io(ErrorKind::NotFound, _))));
    }

    #[test]
    fn free_addresses_are_all_different() {
        let mut addresses = free_addresses::<6>().expect("free ports").to_vec();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 6);
    }
}
