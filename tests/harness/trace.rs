//! System calls of a running process that fail or take long, by strace.

use super::command;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for strace to take hold of a process.
const ATTACH: Duration = Duration::from_secs(10);

/// A strace at work. When it is dropped the process goes on undisturbed.
pub struct Trace {
    strace: Child,
}

impl Trace {
    /// Lets every sync of a process fail with EIO; why that cannot be done here.
    pub fn fail_syncs(pid: u32) -> Result<Trace, String> {
        Trace::attach(pid, "fdatasync,fsync", "error=EIO")
    }

    /// Lets every sync of a process take so much longer; why that cannot be done here.
    pub fn delay_syncs(pid: u32, by: Duration) -> Result<Trace, String> {
        Trace::attach(pid, "fdatasync,fsync", &format!("delay_enter={}", by.as_micros()))
    }

    /// The same for the syncs of files with their metadata alone: what is not the log.
    pub fn delay_syncs_of_metadata(pid: u32, by: Duration) -> Result<Trace, String> {
        Trace::attach(pid, "fsync", &format!("delay_enter={}", by.as_micros()))
    }

    fn attach(pid: u32, calls: &str, injection: &str) -> Result<Trace, String> {
        command("strace").ok_or("there is no strace (Debian package strace)")?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.arg("-e").arg(format!("inject={calls}:{injection}"));
        strace.arg("-p").arg(pid.to_string());
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut trace = Trace { strace: strace.spawn().map_err(|e| e.to_string())? };
        let end = Instant::now() + ATTACH;
        while !is_traced(pid) {
            let ended = trace.strace.try_wait().expect("a child").is_some();
            if ended || Instant::now() > end {
                return Err(format!("strace cannot attach: {}", trace.give_up()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(trace)
    }

    /// Ends strace; what it complained of.
    fn give_up(&mut self) -> String {
        let _ = self.strace.kill();
        let mut why = String::new();
        let _ = self.strace.stderr.take().expect("a pipe").read_to_string(&mut why);
        why.trim().replace('\n', "; ")
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Whether all threads of a process are traced, or it has ended: of a call that failed.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let traced = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let is_traced = |line: &str| line.starts_with("TracerPid:") && !line.ends_with("\t0");
        status.lines().any(|line| is_traced(line) || line.starts_with("State:\tZ"))
    };
    tasks.flatten().all(traced)
}
