//! The least server of our shape, as the limit to measure ours by: a thread a connection, which reads to the end of a head
//! and sends the same bytes each time. It parses nothing, checks nothing and waits for ever.

use crate::error::Result;
use crate::net;
use memchr::memmem;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the longest head.
const HEAD_BYTES: usize = 4 << 10;
/// Stack of a connection's thread.
const STACK_BYTES: usize = 64 << 10;

/// Answers every request with the bytes of a file, for ever.
pub fn run(address: &str, answer: &Path) -> Result<()> {
    let answer: Arc<[u8]> = std::fs::read(answer)?.into();
    for socket in net::bind(address)?.incoming() {
        let (socket, answer) = (socket?, answer.clone());
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || talk(socket, &answer).unwrap_or_default())?;
    }
    Ok(())
}

fn talk(mut socket: TcpStream, answer: &[u8]) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut head, mut length) = ([0; HEAD_BYTES], 0);
    loop {
        let n = socket.read(&mut head[length..])?;
        if n == 0 {
            return Ok(());
        }
        length += n;
        if head[..length].ends_with(b"\r\n\r\n") {
            socket.write_all(answer)?;
            if memmem::find(&head[..length], b"Connection: close").is_some() {
                return Ok(());
            }
            length = 0;
        }
    }
}
