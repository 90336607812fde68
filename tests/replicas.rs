//! Copies of a tablet on real nodes: whichever of them die, whatever is left goes on, what was acknowledged is
//! there, and those that come back catch up by themselves.

mod damage;
mod tables;

use crate::harness::proxy::Fault;
use crate::harness::{Cluster, EndOnPanic, Text, eventually, noise};
use penncloud::protocol::cluster::{Class, Routes, TabletRoute};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Rows that are written to: enough to meet every tablet.
const ROWS: usize = 12;
/// Acknowledged writes between two events.
const SOME: usize = 40;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// More than a read lease lasts, and more than the master waits for a silent node.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// A cell that was acknowledged.
#[derive(Clone)]
struct Cell {
    row: String,
    column: String,
    value: Vec<u8>,
}

/// Somebody who writes cells, each a new one, through one connection to one node.
struct Writer {
    store: Text,
    /// Begins the columns' names.
    name: String,
    rows: Vec<String>,
    bytes: usize,
    count: usize,
    acknowledged: Vec<Cell>,
}

impl Writer {
    fn at(cluster: &Cluster, node: &str, name: &str) -> Writer {
        Writer {
            store: text(cluster, node),
            name: name.into(),
            rows: (0..ROWS).map(|i| format!("row{i}")).collect(),
            bytes: VALUE_BYTES,
            count: 0,
            acknowledged: Vec::new(),
        }
    }

    /// Has it write to one row alone.
    fn with_row(mut self, row: &str) -> Writer {
        self.rows = vec![row.into()];
        self
    }

    /// Writes a new cell; the answer. Options stand at the end of the request.
    fn write(&mut self, options: &str) -> io::Result<String> {
        let i = self.count;
        self.count += 1;
        let (row, column) = (self.rows[i % self.rows.len()].clone(), format!("{}-{i}", self.name));
        let value = noise(i as u64, self.bytes);
        let request = format!("PUT {row} {column} {}{options}", value.len());
        let answer = self.store.ask_with(&request, &value)?;
        if answer.starts_with("OK ") {
            self.acknowledged.push(Cell { row, column, value });
        }
        Ok(answer)
    }

    /// Writes cells; none of them may be refused.
    fn write_well(&mut self, cells: usize) {
        for _ in 0..cells {
            let answer = self.write("").expect("the node that it is connected to runs");
            assert!(answer.starts_with("OK "), "{answer}");
        }
    }

    /// Writes until so many more cells were acknowledged: what becomes of others may be unknown.
    fn write_on(&mut self, cells: usize) {
        let enough = self.acknowledged.len() + cells;
        eventually(&format!("{cells} writes of {} are acknowledged", self.name), || {
            while self.acknowledged.len() < enough {
                let answer = self.write("").expect("the node that it is connected to runs");
                match answer.split(' ').next() {
                    Some("OK") => {}
                    Some("RETRY" | "UNKNOWN") => return None,
                    _ => panic!("{answer}"),
                }
            }
            Some(())
        });
    }
}

fn text(cluster: &Cluster, node: &str) -> Text {
    Text::connect(&cluster.address(node)).expect("the process runs")
}

/// Gives the master an order.
fn order(cluster: &Cluster, order: &str) {
    let mut master = text(cluster, "m1");
    master.prove(&cluster.config().secrets().unwrap().cluster).unwrap();
    assert_eq!(master.ask(order).unwrap(), "OK");
}

/// Waits until what the master says of each tablet is so.
fn wait_for_tablets(cluster: &Cluster, what: &str, is_so: impl Fn(&TabletRoute) -> bool) {
    eventually(what, || cluster.routes().tablets.iter().all(&is_so).then_some(()));
}

fn tablet_of<'a>(routes: &'a Routes, row: &str) -> &'a TabletRoute {
    routes.tablet_of_row(row.as_bytes()).expect("each row has a tablet")
}

/// The primary of a row's tablet, and the other two nodes.
fn roles(cluster: &Cluster, row: &str) -> (String, [String; 2]) {
    let primary = tablet_of(&cluster.routes(), row).primary.clone().expect("a primary");
    let others: Vec<String> = cluster.backends().into_iter().filter(|n| *n != primary).collect();
    (primary, others.try_into().expect("three nodes"))
}

/// Waits until a node's own copies hold every cell, as far as they go.
fn wait_for_cells_at(cluster: &Cluster, node: &str, cells: &[Cell]) {
    let mut store = text(cluster, node);
    for Cell { row, column, value } in cells {
        let found = eventually(&format!("{node} has {row} {column}"), || {
            store.get(row, &format!("{column} local=1")).expect("it holds the tablet")
        });
        assert!(found.1 == *value, "{row} {column} has changed at {node}");
    }
}

/// Every cell is read through a node.
fn assert_read_through(cluster: &Cluster, node: &str, cells: &[Cell]) {
    let mut store = text(cluster, node);
    for Cell { row, column, value } in cells {
        let (_, found) = store.get(row, column).unwrap().expect("it was acknowledged");
        assert!(found == *value, "{row} {column} has changed");
    }
}

/// All are in sync, every node has every cell, and their copies are the same.
fn assert_whole(cluster: &Cluster, cells: &[Cell]) {
    cluster.wait_in_sync();
    for node in cluster.backends() {
        wait_for_cells_at(cluster, &node, cells);
    }
    for row in cells.iter().map(|cell| &cell.row).collect::<BTreeSet<_>>() {
        eventually(&format!("the three copies of {row} are equal"), || {
            let nodes = cluster.backends();
            let copies = nodes.iter().map(|node| cluster.copy_at(node, row).unwrap());
            let copies: Option<Vec<_>> = copies.collect();
            copies?.windows(2).all(|two| two[0] == two[1]).then_some(())
        });
    }
}

#[test]
fn a_primary_that_dies_is_replaced_and_everything_acknowledged_is_there() {
    let cluster = Cluster::start_store(|_| {});
    let row = "row0";
    let (primary, survivors) = roles(&cluster, row);
    let mut writer = Writer::at(&cluster, &survivors[0], "w").with_row(row);
    writer.write_well(SOME);
    cluster.kill(&primary);
    writer.write_on(SOME);
    assert_ne!(roles(&cluster, row).0, primary);
    for survivor in &survivors {
        wait_for_cells_at(&cluster, survivor, &writer.acknowledged);
    }
    cluster.start_again(&primary);
    assert_whole(&cluster, &writer.acknowledged);
    eventually("the primary is where it was", || (roles(&cluster, row).0 == primary).then_some(()));
    writer.write_on(SOME);
    assert_whole(&cluster, &writer.acknowledged);
}

/// As with netcat, where nobody sends anything twice.
#[test]
fn a_big_value_on_its_way_outlives_a_primary() {
    let cluster = Cluster::start_store(|_| {});
    let value = noise(3, 24 * cluster.config().store.cell_bytes as usize);
    let routes = cluster.routes();
    let chunks = routes.tablets.iter().find(|t| t.class == Class::Large).expect("one for chunks");
    let primary = chunks.primary.clone().expect("a primary");
    let others: Vec<String> = cluster.backends().into_iter().filter(|n| *n != primary).collect();
    let mut store = text(&cluster, &primary);
    let (begin, end) = value.split_at(value.len() / 2);
    store.send(format!("PUT row0 big {}\n", value.len())).unwrap();
    // A chunk that its replicas never hear of: its primary cannot know what becomes of it.
    let mut status = text(&cluster, &primary);
    others.iter().for_each(|other| cluster.network().set(&primary, other, Fault::Cut));
    store.send(begin).unwrap();
    eventually("a chunk waits for replicas", || {
        let lines = status.lines("STATUS").unwrap();
        let waits = |line: &String| line.contains(&chunks.id) && !line.contains("primary, lag 0");
        lines.iter().any(waits).then_some(())
    });
    cluster.pause(&primary);
    wait_for_tablets(&cluster, "another is primary", |t| t.primary.as_ref() != Some(&primary));
    others.iter().for_each(|other| cluster.network().reset(&primary, other));
    cluster.network().heal();
    cluster.resume(&primary);
    store.send(end).unwrap();
    let answer = store.line().unwrap();
    assert!(answer.starts_with("OK "), "{answer}");
    let (_, found) = text(&cluster, &others[0]).get("row0", "big").unwrap().expect("it is there");
    assert!(found == value, "its bytes have changed");
}

/// Has somebody write through a node for as long as something goes on; no write may be refused. The scene is told how
/// many were acknowledged so far.
fn write_well_during(writer: &mut Writer, scene: impl FnOnce(&dyn Fn())) {
    let (over, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _end = EndOnPanic(&over);
        scope.spawn(|| {
            let _end = EndOnPanic(&over);
            while !over.load(Ordering::Relaxed) {
                writer.write_well(1);
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        scene(&|| {
            let enough = written.load(Ordering::Relaxed) + SOME;
            eventually("writes go on", || {
                let ended = over.load(Ordering::Relaxed);
                (ended || written.load(Ordering::Relaxed) >= enough).then_some(())
            });
        });
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_shutdown_hands_over_without_a_refused_write() {
    let cluster = Cluster::start_store(|_| {});
    let (node, others) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &others[0], "w");
    write_well_during(&mut writer, |writes_go_on| {
        writes_go_on();
        order(&cluster, &format!("SHUTDOWN {node}"));
        let is_out = |t: &TabletRoute| !t.isr.contains(&node) && t.primary.as_ref() != Some(&node);
        wait_for_tablets(&cluster, "it has left all its places", is_out);
        writes_go_on();
        order(&cluster, &format!("WAKEUP {node}"));
        cluster.wait_in_sync();
        eventually("it leads again", || (roles(&cluster, "row0").0 == node).then_some(()));
        writes_go_on();
    });
    assert_whole(&cluster, &writer.acknowledged);
}

#[test]
fn the_service_goes_on_down_to_the_last_copy() {
    let cluster = Cluster::start_store(|_| {});
    let (first, [second, last]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &last, "w");
    writer.write_well(SOME);
    cluster.kill(&first);
    writer.write_on(SOME);
    cluster.kill(&second);
    writer.write_on(SOME);
    assert_read_through(&cluster, &last, &writer.acknowledged);
    eventually("the master warns of each tablet", || {
        let lines = text(&cluster, "m1").lines("STATUS").unwrap();
        let mut tablets = lines.iter().filter(|line| line.starts_with("tablet "));
        tablets.all(|line| line.ends_with(": ONE COPY LEFT")).then_some(())
    });
    cluster.start_again(&first);
    cluster.start_again(&second);
    assert_whole(&cluster, &writer.acknowledged);
    writer.write_on(SOME);
}

#[test]
fn with_min_insync_2_the_last_copy_refuses_and_goes_on_when_another_returns() {
    let cluster = Cluster::start_store(|text| text.push_str("\n[replication]\nmin_insync = 2\n"));
    let (first, [second, last]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &last, "w");
    writer.write_well(SOME);
    cluster.kill(&first);
    cluster.kill(&second);
    for _ in 0..2 {
        let answer = writer.write(" deadline=3000").unwrap();
        assert!(answer.starts_with("RETRY") || answer.starts_with("UNKNOWN"), "{answer}");
    }
    eventually("STATUS says that it takes over", || {
        let lines = text(&cluster, &last).lines("STATUS").unwrap();
        let name = format!("tablet {}:", tablet_of(&cluster.routes(), "row0").id);
        let said = lines.into_iter().find(|line| line.starts_with(&name))?;
        said.ends_with("takes over").then_some(())
    });
    cluster.start_again(&second);
    writer.write_on(SOME);
    assert_read_through(&cluster, &last, &writer.acknowledged);
    assert_read_through(&cluster, &second, &writer.acknowledged);
    cluster.start_again(&first);
    assert_whole(&cluster, &writer.acknowledged);
}

#[test]
fn without_a_master_reads_and_writes_go_on() {
    let cluster = Cluster::start_store(|_| {});
    let nodes = cluster.backends();
    let mut writers: Vec<_> = nodes.iter().map(|node| Writer::at(&cluster, node, node)).collect();
    writers.iter_mut().for_each(|writer| writer.write_well(SOME));
    cluster.kill("m1");
    let end = Instant::now() + LONG_ENOUGH;
    while Instant::now() < end {
        for (node, writer) in nodes.iter().zip(&mut writers) {
            writer.write_well(ROWS);
            let last = writer.acknowledged.len() - ROWS;
            assert_read_through(&cluster, node, &writer.acknowledged[last..]);
        }
    }
    cluster.start_again("m1");
    let cells: Vec<Cell> = writers.iter().flat_map(|w| w.acknowledged.clone()).collect();
    assert_whole(&cluster, &cells);
    writers.iter_mut().for_each(|writer| writer.write_on(SOME));
}

#[test]
fn without_a_master_a_replica_that_restarts_serves_again() {
    let cluster = Cluster::start_store(|_| {});
    let (primary, [node, _]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &primary, "w").with_row("row0");
    writer.write_well(SOME);
    cluster.kill("m1");
    cluster.kill(&node);
    let answer = writer.write(" deadline=3000").unwrap();
    assert!(answer.starts_with("RETRY") || answer.starts_with("UNKNOWN"), "{answer}");
    cluster.start_again(&node);
    writer.write_on(SOME);
    let mut other = Writer::at(&cluster, &node, "other").with_row("row0");
    other.write_on(SOME);
    assert_read_through(&cluster, &node, &writer.acknowledged);
    assert_read_through(&cluster, &node, &other.acknowledged);
    cluster.start_again("m1");
    assert_whole(&cluster, &[writer.acknowledged, other.acknowledged].concat());
}

#[test]
fn backends_that_all_restart_refuse_until_the_master_is_back() {
    let cluster = Cluster::start_store(|_| {});
    let mut writer = Writer::at(&cluster, "a1", "w");
    writer.write_well(SOME);
    cluster.kill("m1");
    let nodes = cluster.backends();
    nodes.iter().for_each(|node| cluster.kill(node));
    nodes.iter().for_each(|node| cluster.start_again(node));
    let Cell { row, column, .. } = &writer.acknowledged[0];
    for node in &nodes {
        let mut store = text(&cluster, node);
        for request in [format!("GET {row} {column}"), format!("DELETE {row} {column}")] {
            let answer = store.ask(format!("{request} deadline=2000")).unwrap();
            assert!(answer.starts_with("RETRY"), "{node} answers {request} with {answer}");
        }
    }
    cluster.start_again("m1");
    cluster.wait_in_service();
    assert_read_through(&cluster, "a1", &writer.acknowledged);
    assert_whole(&cluster, &writer.acknowledged);
}

#[test]
fn all_die_at_once_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::start_store(|_| {});
    let all: Vec<String> = cluster.backends().into_iter().chain(["m1".into()]).collect();
    let written = AtomicUsize::new(0);
    let write = |node: &String| {
        let mut writer = Writer::at(&cluster, node, node);
        while writer.write("").is_ok() {
            written.store(writer.acknowledged.len(), Ordering::Relaxed);
        }
        writer.acknowledged
    };
    let cells: Vec<Cell> = std::thread::scope(|scope| {
        let writers: Vec<_> =
            cluster.backends().into_iter().map(|node| scope.spawn(move || write(&node))).collect();
        eventually("cells are written", || (written.load(Ordering::Relaxed) >= SOME).then_some(()));
        all.iter().for_each(|name| cluster.pause(name));
        all.iter().for_each(|name| cluster.kill(name));
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    all.iter().for_each(|name| cluster.start_again(name));
    cluster.wait_in_service();
    assert_read_through(&cluster, "a1", &cells);
    assert_whole(&cluster, &cells);
}

#[test]
fn an_empty_disk_comes_back_as_a_replica() {
    let cluster = Cluster::start_store(|_| {});
    let (node, others) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &others[0], "w");
    writer.write_well(SOME);
    cluster.kill(&node);
    fs::remove_dir_all(cluster.config().data_dir(&node)).unwrap();
    writer.write_on(SOME);
    cluster.start_again(&node);
    assert_whole(&cluster, &writer.acknowledged);
    others.iter().for_each(|other| cluster.kill(other));
    wait_for_cells_at(&cluster, &node, &writer.acknowledged);
    let mut alone = Writer::at(&cluster, &node, "alone");
    alone.write_on(SOME);
    assert_read_through(&cluster, &node, &writer.acknowledged);
}

#[test]
fn a_node_whose_data_directory_is_removed_ends() {
    let cluster = Cluster::start_store(|_| {});
    let (node, others) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &others[0], "w");
    writer.write_well(SOME);
    let data = cluster.config().data_dir(&node);
    eventually("the directory is removed", || fs::remove_dir_all(&data).ok());
    assert_eq!(cluster.wait_end(&node), Some(3));
    writer.write_on(SOME);
    let _ = fs::remove_dir_all(&data);
    cluster.start_again(&node);
    assert_whole(&cluster, &writer.acknowledged);
}

/// The primary keeps so many bytes of its log for those who come back.
const KEPT_BYTES: usize = 16 << 20;

/// How often a node has taken a whole table from another.
fn tables_taken(cluster: &Cluster, node: &str) -> usize {
    cluster.log(node).matches(": takes the table of version ").count()
}

#[test]
fn a_replica_far_behind_takes_the_whole_table_while_writes_go_on() {
    let cluster = Cluster::start_store(|text| {
        *text = text.replace("cell_bytes = 4096", "cell_bytes = 65536")
    });
    let (other, [node, _]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &other, "w").with_row("row0");
    writer.write_well(SOME);
    cluster.kill(&node);
    let tables = tables_taken(&cluster, &node);
    writer.write_on(1);
    writer.bytes = 60_000;
    writer.write_well(KEPT_BYTES / writer.bytes * 5 / 4);
    writer.bytes = VALUE_BYTES;
    write_well_during(&mut writer, |writes_go_on| {
        writes_go_on();
        cluster.start_again(&node);
        cluster.wait_in_sync();
        writes_go_on();
    });
    assert!(tables_taken(&cluster, &node) > tables, "the log was enough, this shows nothing");
    assert_whole(&cluster, &writer.acknowledged);
}

/// Opens connections to a process that say nothing more, until it takes no other.
fn fill(cluster: &Cluster, name: &str) -> Vec<Text> {
    let mut idle = Vec::new();
    loop {
        let mut client = text(cluster, name);
        match client.ask("PING").unwrap().as_str() {
            "PONG" => idle.push(client),
            answer => {
                assert_eq!(answer, "RETRY too many connections");
                return idle;
            }
        }
    }
}

#[test]
fn where_clients_take_all_connections_nodes_and_the_master_still_get_in() {
    let cluster = Cluster::start_store(|text| {
        *text = text.replace("cell_bytes = 4096", "cell_bytes = 4096\nconnections_max = 24");
    });
    let (first, [node, other]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &other, "w").with_row("row0");
    writer.write_well(SOME);
    let _at_node = fill(&cluster, &node);
    cluster.kill("m1");
    cluster.start_again("m1");
    let _at_master = fill(&cluster, "m1");
    cluster.kill(&first);
    writer.write_on(SOME);
    assert_ne!(roles(&cluster, "row0").0, first);
    cluster.start_again(&first);
    cluster.wait_in_sync();
    writer.write_on(SOME);
    wait_for_cells_at(&cluster, &first, &writer.acknowledged);
    for full in [&*node, "m1"] {
        assert_eq!(text(&cluster, full).ask("PING").unwrap(), "RETRY too many connections");
    }
}
