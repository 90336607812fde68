//! The HTTP server: its machines over bytes, and the whole of it over real sockets.

mod pieces;
mod scripts;
mod server;
mod sockets;
mod splits;
mod vectors;
