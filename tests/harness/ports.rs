//! Free ports for processes that are killed and started again on the same port.

use std::fs::File;
use std::net::TcpListener;

/// Ports that no other test takes while this lives, not even in another test process.
pub struct Ports {
    /// The ports.
    pub numbers: Vec<u16>,
    _locks: Vec<File>,
}

impl Ports {
    /// `host:port` of each.
    pub fn addresses(&self) -> Vec<String> {
        self.numbers.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }
}

/// Takes `n` free ports below the range from which the system gives ports to outgoing connections: one of
/// those could take the port of a process that is just down.
pub fn take(n: usize) -> Ports {
    let dir = std::env::temp_dir().join("penncloud-test-ports");
    std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
    let mut random = [0; 2];
    getrandom::fill(&mut random).expect("random bytes");
    let (low, high) = (10_000, first_ephemeral());
    let start = u16::from_le_bytes(random) as usize;
    let mut ports = Ports { numbers: Vec::new(), _locks: Vec::new() };
    for i in 0..high - low {
        if ports.numbers.len() == n {
            break;
        }
        let port = (low + (start + i) % (high - low)) as u16;
        let lock = File::create(dir.join(port.to_string())).expect("a lock file can be made");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.numbers.push(port);
            ports._locks.push(lock);
        }
    }
    assert_eq!(ports.numbers.len(), n, "not enough free ports");
    ports
}

fn first_ephemeral() -> usize {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|n| n.parse().ok());
    first.filter(|n| *n > 12_000).unwrap_or(32_768)
}
