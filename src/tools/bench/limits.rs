//! What the machine allows: its disk's syncs, and loopback TCP.

use super::Against;
use super::load::{self, Load, Measured};
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file whose syncs are measured: as large as a small log segment.
const FILE_BYTES: usize = 4 << 20;

/// Bytes written before each sync.
const RECORD_BYTES: usize = 4 << 10;

/// Bytes sent at once when bandwidth is measured.
const BURST_BYTES: usize = 256 << 10;

/// Bytes that are written at once, and how many of these are synced together, where one file is written.
const PIECE_BYTES: usize = 1 << 20;
const PIECES_SYNCED: u64 = 4;

/// The machine's limits.
#[derive(Debug)]
pub struct Limits {
    /// Writes of 4 KiB into a preallocated file, each with an fdatasync, one after the other.
    pub syncs: Measured,
    /// One byte there and back, one connection.
    pub round_trips: Measured,
    /// Bytes one way, one connection.
    pub bandwidth: Measured,
}

impl Limits {
    /// Measures each for some time; the disk is that of the data directory.
    pub fn measure(data_dir: &Path, time: Duration) -> Result<Limits> {
        let load = Load { connections: 1, time, bytes_max: u64::MAX };
        let file = Scratch::new(data_dir)?;
        let limits = Limits {
            syncs: load::measure(&load, |_| file.syncs()),
            round_trips: load::measure(&load, |_| round_trips()),
            bandwidth: load::measure(&load, |_| bursts()),
        };
        let measured = [&limits.syncs, &limits.round_trips, &limits.bandwidth];
        let fault = measured.into_iter().find_map(|m| m.fault.clone());
        match fault {
            Some(error) => Err(error.during("measure what the machine allows")),
            None => Ok(limits),
        }
    }

    /// Each with its name.
    pub fn all(&self) -> [(&'static str, &Measured); 3] {
        [
            ("limit: fdatasync of 4 KiB", &self.syncs),
            ("limit: loopback round trip", &self.round_trips),
            ("limit: loopback one way", &self.bandwidth),
        ]
    }

    /// How much of a limit a case reached, in words.
    pub fn share(&self, against: Against, measured: &Measured) -> String {
        let (reached, limit, name) = match against {
            Against::Syncs => (measured.rate(), self.syncs.rate(), "fdatasync"),
            Against::RoundTrips => (measured.rate(), self.round_trips.rate(), "round trips"),
            Against::Bandwidth => (measured.bandwidth(), self.bandwidth.bandwidth(), "loopback"),
        };
        format!("{:.0} % of {name}", 100.0 * reached / limit)
    }
}

/// A file beside the data, removed when this is dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(data_dir: &Path) -> Result<Scratch> {
        let path = data_dir.join(format!("bench-{}.tmp", std::process::id()));
        let made = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; FILE_BYTES])?;
            file.sync_all()
        });
        let scratch = Scratch { path };
        let path = scratch.path.display();
        made.map_err(|e| Error::from(e).during(format_args!("write {path}")))?;
        Ok(scratch)
    }

    fn syncs(&self) -> Result<impl FnMut() -> Result<u64> + use<>> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        let record = [7; RECORD_BYTES];
        let mut offsets = (0..FILE_BYTES).step_by(RECORD_BYTES).cycle();
        Ok(move || {
            let offset = offsets.next().expect("the offsets go round");
            file.write_all_at(&record, offset as u64)?;
            file.sync_data()?;
            Ok(RECORD_BYTES as u64)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes a second that the disk of a directory takes in one new file, synced every so often.
pub fn sequential_write(dir: &Path, bytes: u64) -> Result<f64> {
    let path = dir.join(format!("bench-{}.tmp", std::process::id()));
    let (scratch, piece) = (Scratch { path }, vec![7; PIECE_BYTES]);
    let mut file = File::create(&scratch.path)?;
    let began = std::time::Instant::now();
    let pieces = (bytes / PIECE_BYTES as u64).max(1);
    for n in 1..=pieces {
        file.write_all(&piece)?;
        if n.is_multiple_of(PIECES_SYNCED) || n == pieces {
            file.sync_data()?;
        }
    }
    Ok((pieces * PIECE_BYTES as u64) as f64 / began.elapsed().as_secs_f64())
}

/// A connection whose other end does this with it on a thread of its own, until it is closed.
fn with_peer(serve: fn(TcpStream) -> std::io::Result<()>) -> Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("peer".into()).spawn(move || {
        let _ = listener.accept().and_then(|(socket, _)| serve(socket));
    })?;
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn round_trips() -> Result<impl FnMut() -> Result<u64>> {
    let mut socket = with_peer(|mut socket| {
        socket.set_nodelay(true)?;
        let mut byte = [0];
        loop {
            socket.read_exact(&mut byte)?;
            socket.write_all(&byte)?;
        }
    })?;
    Ok(move || {
        let mut byte = [1];
        socket.write_all(&byte)?;
        socket.read_exact(&mut byte)?;
        Ok(1)
    })
}

fn bursts() -> Result<impl FnMut() -> Result<u64>> {
    let mut socket = with_peer(|mut socket| {
        let mut buffer = vec![0; BURST_BYTES];
        while socket.read(&mut buffer)? > 0 {}
        Ok(())
    })?;
    let burst = vec![7; BURST_BYTES];
    Ok(move || {
        socket.write_all(&burst)?;
        Ok(BURST_BYTES as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_measured_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let limits = Limits::measure(dir.path(), Duration::from_millis(5)).expect("measured");
        assert!(limits.syncs.rate() > 0.0 && limits.round_trips.rate() > 0.0);
        assert!(limits.bandwidth.bytes >= BURST_BYTES as u64);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
        assert_eq!(limits.share(Against::Syncs, &limits.syncs), "100 % of fdatasync");
    }
}
