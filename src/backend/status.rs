//! STATUS and HELP: lines for people.

use super::node::Node;
use crate::protocol::cluster::TabletReport;
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
        let _ = writeln!(text, "{}", tablet_line(tablet, node));
    }
    for tablet in &routes.tablets {
        let primary = tablet.primary.as_deref().unwrap_or("none");
        let _ = writeln!(text, "route {} primary {primary} epoch {}", tablet.id, tablet.epoch);
    }
    text
}

/// Everything of a tablet in one line. Lag is in entries that this node does not know to be committed.
fn tablet_line(tablet: &TabletReport, node: &Node) -> String {
    let held = node.tablet(&tablet.id).map(|held| held.view().configuration.clone());
    let isr: Vec<String> =
        held.iter().flat_map(|adopted| &adopted.isr).map(|node| node.to_string()).collect();
    let lease = tablet.lease_ms.map_or("no limit".into(), |ms| format!("{ms} ms"));
    format!(
        "tablet {} {} epoch {} version {} lag {} lease {lease} in sync {} cells {} bytes {}",
        tablet.id,
        tablet.role.word(),
        tablet.epoch,
        tablet.version,
        tablet.version - tablet.committed,
        isr.join(","),
        tablet.cells,
        tablet.bytes,
    )
}
