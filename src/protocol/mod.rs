//! The text protocol of the store: what clients, nodes and people with netcat say to it.
//!
//! One header line of words, ended by LF or CRLF; where a word is a length, that many raw bytes follow.
//! In an answer the bytes are followed by one LF; in a request that LF is optional, because empty lines
//! are skipped: a value typed into netcat and ended by Return just works.
//!
//! ```text
//! PUT alice note 5        ->
//! hello                   ->
//!                         <-  OK 17
//! GET alice note          ->
//!                         <-  VALUE 17 5 total=5
//!                         <-  hello
//! ```
//!
//! * A *word* holds any byte but space, control characters, `%` and `=`, which are written `%XX`.
//! * *Options* are trailing `name=value` words; an unknown one is `BAD`.
//! * A request that is refused does not end the connection while it is known where the next one begins: up
//!   to 1 MiB of its bytes are read away. Otherwise the connection is closed after the answer.
//! * Requests may be sent without waiting for answers (pipelined); they are executed and answered in order.
//! * A first word or a line end of HTTP closes the connection without an answer.
//!
//! # Requests and answers
//!
//! | request | answer |
//! |---|---|
//! | `GET <row> <column> [offset=N] [length=N] [if=<version>] [local=1]` | `VALUE <version> <len> total=<N>` + bytes, or `NOTFOUND` |
//! | `PUT <row> <column> <len> [if=<version>] [ttl=<seconds>]` + bytes | `OK <version>`, or `MISMATCH <version>` |
//! | `CPUT <row> <column> <len1> <len2> [ttl=]` + old and new value | `OK <version>`, or `MISMATCH <version>` (0: no such cell) |
//! | `DELETE <row> <column> [if=<version>]`, `DELETEROW <row>` | `OK <version>`, `NOTFOUND` or `MISMATCH <version>` |
//! | `ADD <row> <column> <delta> [max=<bound>]` | `OK <version> <sum>`, or `QUOTA <value> max=<bound>`: it would grow over the bound |
//! | `APPEND <row> <prefix> <len>` + bytes | `OK <version> <column>` |
//! | `BATCH <owner> <n>`, then n of the six above or `COMMIT` | `OK <version>` + the sums and columns that ADD and APPEND made, or `MISMATCH <version> at=<item>`, or `QUOTA …` |
//! | `STAGE <row> [id=]` | `OK <id>` |
//! | `CHUNK <row> <id> <offset> <len>` + bytes | `OK <end of the chunk>` |
//! | `STAGED <row> <id>` | `OK <length without a gap>` |
//! | `COMMIT <row> <column> <id> <length> [if=] [ttl=]`, `ABANDON <row> <id>` | `OK <version>` |
//! | `SCAN <row> [prefix=] [after=] [limit=] [reverse=1] [values=1] [local=1]` | `COLUMNS <n> more=<0\|1>`, then n lines `<column> <version> <len> [big=1]` (each + bytes with `values=1`, unless big) |
//! | `ROWS [prefix=] [after=] [limit=]` | `ROWS <n> more=<0\|1>`, then n lines `<row> <cells> <bytes>` |
//! | `AUTH <word> …` | `AUTH <word> …` or `OK` |
//! | `STATUS`, `HELP` | lines for people, ended by an empty line |
//! | `PING`, `QUIT` | `PONG`, the end of the connection |
//! | master: `WHERE <owner>` | `GROUP <name> <node> <address> …`, alive ones first |
//! | master: `NODES`; `SUSPECT`, `WAKEUP <node>`; `SHUTDOWN <node> [force=1]` | lines; `OK` |
//!
//! Any request may also be answered `RETRY <why>` (definitely not executed), `UNKNOWN <why>` (may have been
//! executed), `NOSPACE`, `TABLETFULL`, `TOOBIG <why>`, `DENIED <why>` or `BAD <why>`, and may carry
//! `client=<32 hex> req=<n> low=<n>` (its name for ever: it executes once, however often it is sent),
//! `retry=1` (it may have been sent before) and `deadline=<ms>`.
//!
//! # Modules
//!
//! * [`word`]: words and lines. [`command`]: requests. [`reply`]: answers. [`wire`]: both over any stream.
//! * [`cell`]: keys, cells, owners and slots. [`kept`]: cells that may lie on a disk. [`entry`]: log entries and checkpoint
//!   items in binary.
//! * [`auth`], [`connection`]: how PennCloud's own processes talk to one another; [`cluster`]: what the master
//!   and the nodes say. Their verbs begin with `@` and are only for connections that have proved the secret.
//! * [`say`]: how nodes and tablets are said to people.
//! * [`chunks`]: a stream of unknown length as chunks, a few in flight.

pub mod auth;
pub mod cell;
pub mod chunks;
pub mod cluster;
pub mod command;
pub mod connection;
mod encode;
pub mod entry;
pub mod kept;
mod parse;
pub mod reply;
pub mod say;
pub mod wire;
pub mod word;
