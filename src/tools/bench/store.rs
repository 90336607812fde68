//! Replicated stores under the same load: what each has to do, and how ours does it.

use super::group::Group;
use crate::error::{Error, Result};
use crate::protocol::cell::owner;
use crate::protocol::command::{Command, Op, Request};
use crate::protocol::connection::Connection;
use crate::protocol::reply::Reply;
use std::io::Read;
use std::time::{Duration, Instant};

/// Time for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
const COLUMN: &str = "value";

/// Makes one request on a connection of its own; answers the bytes of the value.
pub type Worker = Box<dyn FnMut() -> Result<u64>>;

/// A store of three nodes on this machine.
pub trait Store: Send + Sync {
    /// Overwrites a key with so many bytes, and waits until they are on the disks of all nodes that the store waits for.
    fn putter(&self, number: usize, key: &str, bytes: u64) -> Result<Worker>;

    /// Writes a key once, then reads it, from node `number` of three.
    fn getter(&self, number: usize, key: &str, bytes: u64) -> Result<Worker>;
}

impl Store for Group {
    /// PUT at the primary of the row's tablet, as the store's client does.
    fn putter(&self, _: usize, key: &str, bytes: u64) -> Result<Worker> {
        let mut connection = connect(self, &primary(self, key)?.1)?;
        let (row, column, value) = (key.into(), COLUMN.into(), vec![b'x'; bytes as usize]);
        let put = Op::Put { row, column, value, if_version: None, ttl: None };
        let put = Request::new(Command::Write(put));
        Ok(Box::new(move || {
            connection.set_deadline(Instant::now() + PATIENCE);
            match connection.call(&put)? {
                Reply::Ok(_) => Ok(bytes),
                Reply::Error(error) => Err(error),
                other => Err(Error::bad(format_args!("a PUT was answered {other:?}"))),
            }
        }))
    }

    fn getter(&self, number: usize, key: &str, bytes: u64) -> Result<Worker> {
        self.putter(number, key, bytes)?()?;
        let addresses = self.addresses();
        let mut connection = connect(self, &addresses[number % addresses.len()])?;
        let mut value = vec![0; bytes as usize + 1];
        let (row, column) = (key.into(), COLUMN.into());
        let get =
            Command::Get { row, column, offset: 0, length: None, if_version: None, local: false };
        let get = Request::new(get);
        Ok(Box::new(move || {
            connection.set_deadline(Instant::now() + PATIENCE);
            match connection.call(&get)? {
                Reply::Value { len, .. } if len == bytes => {
                    connection.reader().read_exact(&mut value)?;
                    Ok(bytes)
                }
                Reply::Error(error) => Err(error),
                other => Err(Error::bad(format_args!("a GET was answered {other:?}"))),
            }
        }))
    }
}

/// The node, name and address, that is the primary of a row's tablet.
pub fn primary(group: &Group, row: &str) -> Result<(String, String)> {
    let owner = String::from_utf8_lossy(owner(row.as_bytes()));
    let nodes = group.nodes_of(&owner)?;
    nodes.into_iter().next().ok_or_else(|| Error::retry("the group has no nodes"))
}

/// A connection with the time that an answer may take.
pub fn connect(group: &Group, address: &str) -> Result<Connection> {
    let secret = group.config().secrets()?.cluster;
    Connection::open(address, &secret, Instant::now() + PATIENCE)
}
