//! STATUS and HELP: lines for people.

use super::node::Node;
use crate::protocol::cluster::{TabletReport, TabletRoute};
use crate::protocol::say::configuration;
use crate::replication::Configuration;
use std::fmt::Write;

/// Answer to HELP.
pub const HELP: &str = "\
GET <row> <column> [offset=] [length=] [if=<version>] [local=1]
PUT <row> <column> <len> [if=<version>] [ttl=<seconds>], then the bytes
CPUT <row> <column> <len1> <len2> [ttl=], then the old and the new value
DELETE <row> <column> [if=<version>]      DELETEROW <row>
ADD <row> <column> <delta> [max=<bound>]  APPEND <row> <prefix> <len>, then the bytes
BATCH <owner> <n>, then n of the above or COMMIT
STAGE <row> [id=]                         CHUNK <row> <id> <offset> <len>, then the bytes
STAGED <row> <id>                         ABANDON <row> <id>
COMMIT <row> <column> <id> <length> [if=<version>]
SCAN <row> [prefix=] [after=] [limit=] [reverse=1] [values=1] [local=1]
ROWS [prefix=] [after=] [limit=]
STATUS  PING  HELP  QUIT
Anything: [client=<32 hex digits> req=<n> low=<n> [retry=1]] names a request, so that a repeat executes once;
[deadline=<ms>]. A row's owner is its name up to the first /; a row that begins with ~ is its own.
In a word, space, control characters, % and = are written %XX.";

/// Answer to STATUS.
pub fn status(node: &Node) -> String {
    let (report, routes) = (node.report(), node.routes());
    let mut text = format!("node {}: {}, {}", node.name, report.state.word(), report.line());
    let _ =
        writeln!(text, "{}", report.problem.iter().map(|p| format!(": {p}")).collect::<String>());
    let _ = writeln!(text, "{}", report.storage.line());
    for tablet in &report.tablets {
        let _ = writeln!(text, "{}", tablet_line(tablet, node));
    }
    for tablet in routes.tablets.iter().filter(|tablet| node.tablet(&tablet.id).is_none()) {
        let TabletRoute { id, epoch, primary, isr, .. } = tablet;
        let said = configuration(*epoch, primary.as_deref(), isr);
        let _ = writeln!(text, "elsewhere {id}: {said}");
    }
    text
}

/// Everything of a tablet in one line, as the master says it. The lag is in entries that this node does not know to
/// be committed.
fn tablet_line(report: &TabletReport, node: &Node) -> String {
    let lag = report.version - report.committed;
    let (id, me, place) = (&report.id, &node.name, report.place(lag));
    let Some(tablet) = node.tablet(id) else { return format!("tablet {id}: {me} {place}") };
    let view = tablet.view();
    let Configuration { epoch, primary, isr, .. } = &*view.configuration;
    let said = configuration(*epoch, primary.as_deref(), isr);
    format!("tablet {id}: {said}, {}; {me} {place}", report.contents())
}
