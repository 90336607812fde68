//! The HTTP server: its machines over bytes, and the whole of it over real sockets.

mod crowd;
mod fuzz;
mod pieces;
mod process;
mod scripts;
mod server;
mod sockets;
mod splits;
mod tls;
mod vectors;
