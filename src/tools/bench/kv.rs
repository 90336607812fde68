//! The store: PUT and GET by value size and connections.

use super::table::size;
use super::{Against, Bench};
use crate::client::{Client, Op, Written};
use crate::error::{Error, Result};
use std::io::Read;

/// Sizes of values, in bytes.
const SIZES: [u64; 5] = [100, 1 << 10, 64 << 10, 1 << 20, 16 << 20];

/// Connections.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// From this size on the network is the limit that counts.
const LARGE_BYTES: u64 = 64 << 10;

const COLUMN: &str = "value";

/// Runs the cases. Each connection has a row of its own, and so the cases use all tablets.
pub(super) fn run(bench: &mut Bench) {
    let (client, run) = (bench.client.clone(), bench.run.clone());
    let row = |number: usize| format!("~bench-{run}-{number}");
    for bytes in SIZES {
        for connections in CONNECTIONS {
            let put = |number| putter(client.clone(), row(number), bytes);
            let get = |number| getter(client.clone(), row(number), bytes);
            let (large, load) = (bytes >= LARGE_BYTES, (connections, bytes));
            let put_limit = if large { Against::Bandwidth } else { Against::Syncs };
            let get_limit = if large { Against::Bandwidth } else { Against::RoundTrips };
            bench.case(&format!("PUT {}", size(bytes)), load, put_limit, put);
            bench.case(&format!("GET {}", size(bytes)), load, get_limit, get);
        }
    }
    for number in 0..CONNECTIONS[CONNECTIONS.len() - 1] {
        let _ = client.write(Op::DeleteRow { row: row(number).into() });
    }
}

/// One PUT, so that a cluster that does not run is told from one that is slow.
pub(super) fn check(client: &Client, run: &str) -> Result<()> {
    let row = format!("~bench-{run}-0");
    let put = putter(client.clone(), row, 1)?();
    put.map(|_| ()).map_err(|e| Error::retry(format_args!("the cluster does not take a PUT: {e}")))
}

fn putter(client: Client, row: String, bytes: u64) -> Result<impl FnMut() -> Result<u64>> {
    let value = vec![b'x'; bytes as usize];
    Ok(move || {
        let uploaded = client.upload(&row, &mut value.as_slice(), u64::MAX)?;
        match client.write(uploaded.into_op(row.as_str(), COLUMN, None))? {
            Written::Done { .. } => Ok(bytes),
            other => Err(Error::bad(format_args!("an unconditional PUT came to {other:?}"))),
        }
    })
}

fn getter(client: Client, row: String, bytes: u64) -> Result<impl FnMut() -> Result<u64>> {
    putter(client.clone(), row.clone(), bytes)?()?;
    let mut buffer = vec![0; 256 << 10];
    Ok(move || {
        let value = client.open(&row, COLUMN, 0, None)?;
        let mut value = value.ok_or_else(|| Error::bad("the value is gone"))?;
        let mut left = bytes;
        while left > 0 {
            let n = value.read(&mut buffer)? as u64;
            if n == 0 {
                return Err(Error::corrupt("the value ends early"));
            }
            left -= n;
        }
        Ok(bytes)
    })
}
