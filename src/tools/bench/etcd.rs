//! etcd beside ours: three members, spoken to in its own protocol.

use super::children::{Children, free_addresses};
use super::grpc::Session;
use super::store::{Store, Worker};
use crate::config::Scheme;
use crate::error::{Error, Result};
use crate::http::client;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Time for an answer to a question about the cluster.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that its database may have: many versions of each key.
const QUOTA_BYTES: u64 = 8 << 30;
/// Fields of its messages, as keys on the wire: a number times eight, and two for bytes.
const KEY: u8 = 1 << 3 | 2;
const PUT_VALUE: u8 = 2 << 3 | 2;

/// Three members.
pub struct Etcd {
    addresses: [String; 3],
    _children: Children,
}

impl Etcd {
    /// Starts them with their data below a directory.
    pub fn start(below: &Path) -> Result<Etcd> {
        let (children, all) = (Children::new(below)?, free_addresses::<6>()?);
        let [a, b, c, peers @ ..] = all;
        let addresses = [a, b, c];
        let member = |(number, peer): (usize, &String)| format!("etcd{number}=http://{peer}");
        let cluster = peers.iter().enumerate().map(member).collect::<Vec<_>>().join(",");
        for (number, (address, peer)) in addresses.iter().zip(&peers).enumerate() {
            let name = format!("etcd{number}");
            let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
            let mut command = Command::new("etcd");
            command.args(["--name", &name, "--data-dir"]).arg(children.dir().join(&name));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &cluster, "--initial-cluster-state", "new"]);
            command.args(["--log-level", "error", "--quota-backend-bytes"]);
            command.arg(QUOTA_BYTES.to_string());
            children.start(&name, &mut command)?;
        }
        let etcd = Etcd { addresses, _children: children };
        etcd._children.await_work("wait for etcd", || etcd.putter(0, "ready", 1)?().map(drop))?;
        Ok(etcd)
    }

    /// The member that orders the writes.
    fn leader(&self) -> Result<&str> {
        let leads = |address: &&String| {
            client::get(Scheme::Http, address, "/metrics", PATIENCE).is_ok_and(|answer| {
                String::from_utf8_lossy(&answer.body).contains("\netcd_server_is_leader 1\n")
            })
        };
        let leader = self.addresses.iter().find(leads);
        leader.map(String::as_str).ok_or_else(|| Error::retry("etcd has no leader"))
    }
}

impl Store for Etcd {
    /// Put at the leader: at another member it would take one hop more.
    fn putter(&self, _: usize, key: &str, bytes: u64) -> Result<Worker> {
        let mut session = Session::open(self.leader()?)?;
        let mut put = field(KEY, key.as_bytes());
        put.extend(field(PUT_VALUE, &vec![b'x'; bytes as usize]));
        Ok(Box::new(move || session.call("/etcdserverpb.KV/Put", &put).map(|_| bytes)))
    }

    /// A linearizable Range of one key.
    fn getter(&self, number: usize, key: &str, bytes: u64) -> Result<Worker> {
        self.putter(0, key, bytes)?()?;
        let mut session = Session::open(&self.addresses[number % self.addresses.len()])?;
        let range = field(KEY, key.as_bytes());
        Ok(Box::new(move || match session.call("/etcdserverpb.KV/Range", &range)?.len() as u64 {
            len if len > bytes => Ok(bytes),
            len => Err(Error::corrupt(format_args!("etcd answered {len} bytes"))),
        }))
    }
}

/// A field of a message: its key, its length as a varint, its bytes.
fn field(key: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![key], bytes.len());
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_its_length_in_groups_of_seven_bits() {
        assert_eq!(field(KEY, b"k"), [0x0a, 1, b'k']);
        assert_eq!(field(PUT_VALUE, &[b'x'; 300])[..4], [0x12, 0xac, 0x02, b'x']);
    }
}
