//! STATUS and HELP: lines for people.

use super::node::Node;
use std::fmt::Write;

/// Answer to HELP.
pub const HELP: &str = "\
GET <row> <column> [offset=] [length=] [if=<version>] [local=1]
PUT <row> <column> <len> [if=<version>] [ttl=<seconds>], then the bytes
CPUT <row> <column> <len1> <len2> [ttl=], then the old and the new value
DELETE <row> <column> [if=<version>]      DELETEROW <row>
ADD <row> <column> <delta>                APPEND <row> <prefix> <len>, then the bytes
BATCH <owner> <n>, then n of the above or COMMIT
STAGE <row> [id=]                         CHUNK <row> <id> <offset> <len>, then the bytes
STAGED <row> <id>                         ABANDON <row> <id>
COMMIT <row> <column> <id> <length> [if=<version>]
SCAN <row> [prefix=] [after=] [limit=] [reverse=1] [values=1] [local=1]
ROWS [prefix=] [after=] [limit=]
STATUS  PING  HELP  QUIT
In a word, space, control characters, % and = are written %XX.";

/// Answer to STATUS.
pub fn status(node: &Node) -> String {
    let (report, routes) = (node.report(), node.routes());
    let mut text = String::new();
    let _ = writeln!(
        text,
        "node {} {} uptime {} s, {} connections, {} MiB resident, {} MiB free on disk",
        node.name,
        report.state.word(),
        report.uptime_ms / 1000,
        report.connections,
        report.rss_bytes >> 20,
        report.free_bytes >> 20,
    );
    for tablet in &report.tablets {
        let _ = writeln!(
            text,
            "tablet {} {} epoch {} version {} cells {} bytes {}",
            tablet.id,
            tablet.role.word(),
            tablet.epoch,
            tablet.version,
            tablet.cells,
            tablet.bytes,
        );
    }
    for tablet in &routes.tablets {
        let primary = tablet.primary.as_deref().unwrap_or("none");
        let _ = writeln!(text, "route {} primary {primary} epoch {}", tablet.id, tablet.epoch);
    }
    text
}
