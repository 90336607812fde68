//! Copies that are damaged, on a disk or in themselves: others take over, and the copy is fetched anew.

use super::*;
use penncloud::protocol::cell::{Cell, Value};
use penncloud::protocol::kept::{Held, Lower};
use penncloud::replication::Table;
use penncloud::storage;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Records of a segment begin here.
const FIRST_RECORD: usize = 4096;

/// The directories of a node's damaged tablets.
fn set_aside(cluster: &Cluster, node: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.config().data_dir(node).join("tablets-damaged"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Changes a byte of the first record of a tablet's log, behind which many others were synced.
fn damage(cluster: &Cluster, node: &str, tablet: &str) {
    let dir = cluster.config().data_dir(node).join("tablets").join(tablet);
    let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let is_log = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().starts_with("log-");
    let log = files.filter(is_log).min().expect("a tablet has a log");
    let mut bytes = fs::read(&log).unwrap();
    assert_ne!(bytes[FIRST_RECORD..FIRST_RECORD + 64], [0; 64], "a record begins there");
    bytes[FIRST_RECORD + 40] ^= 0x10;
    fs::write(&log, bytes).unwrap();
}

#[test]
fn a_damaged_copy_is_set_aside_and_fetched_anew() {
    let cluster = Cluster::start_store(|_| {});
    let (other, [node, _]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &other, "w");
    writer.write_well(3 * SOME);
    wait_for_cells_at(&cluster, &node, &writer.acknowledged);
    cluster.kill(&node);
    let tablet = tablet_of(&cluster.routes(), "row0").id.clone();
    damage(&cluster, &node, &tablet);
    writer.write_on(SOME);
    cluster.start_again(&node);
    let name = format!("{tablet}-1");
    eventually("the damaged copy is set aside", || {
        set_aside(&cluster, &node).iter().any(|dir| dir.ends_with(&name)).then_some(())
    });
    assert_whole(&cluster, &writer.acknowledged);
    assert_eq!(set_aside(&cluster, &node).len(), 1, "one tablet was damaged, once");
}

/// Files are read for damage all the time.
fn read_often(text: &mut String) {
    *text = text.replace("[store]", "[store]\nscrub_ms = 100");
}

/// A store in which a row's tablet has a checkpoint at each node, and who wrote it.
fn start_with_checkpoints() -> (Cluster, Writer) {
    let cluster = Cluster::start_store(read_often);
    let (_, [other, _]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &other, "w").with_row("row0");
    writer.bytes = 4000;
    writer.write_well(400);
    for node in cluster.backends() {
        eventually("there is a checkpoint", || checkpoint(&cluster, &node));
    }
    (cluster, writer)
}

/// The directory of a row's tablet at a node.
fn tablet_dir(cluster: &Cluster, node: &str) -> PathBuf {
    let tablet = tablet_of(&cluster.routes(), "row0").id.clone();
    cluster.config().data_dir(node).join("tablets").join(tablet)
}

/// A run of the checkpoint of a row's tablet at a node.
fn checkpoint(cluster: &Cluster, node: &str) -> Option<PathBuf> {
    let files = fs::read_dir(tablet_dir(cluster, node)).ok()?;
    let mut files = files.flatten().map(|entry| entry.path());
    files.find(|file| {
        let name = file.file_name().expect("it lies in a directory").to_string_lossy();
        name.starts_with("run-")
    })
}

/// Changes a byte in the middle of a file, under whoever has it open.
fn flip_a_byte(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let (mut byte, middle) = ([0], file.metadata().unwrap().len() / 2);
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
}

/// The damaged copy of the row's tablet is set aside, once.
fn wait_until_set_aside(cluster: &Cluster, node: &str) {
    let name = tablet_dir(cluster, node).file_name().unwrap().to_string_lossy().into_owned();
    eventually("the damaged copy is set aside", || {
        set_aside(cluster, node).iter().any(|dir| dir.ends_with(format!("{name}-1"))).then_some(())
    });
}

#[test]
fn damage_under_a_running_replica_is_found_and_its_copy_fetched_anew() {
    damage_under_a_running_node(|(_, [replica, _])| replica);
}

#[test]
fn damage_under_a_running_primary_is_found_and_its_copy_fetched_anew() {
    damage_under_a_running_node(|(primary, _)| primary);
}

fn damage_under_a_running_node(choose: fn((String, [String; 2])) -> String) {
    let (cluster, mut writer) = start_with_checkpoints();
    let node = choose(roles(&cluster, "row0"));
    flip_a_byte(&checkpoint(&cluster, &node).expect("it was just there"));
    wait_until_set_aside(&cluster, &node);
    writer.write_on(SOME);
    assert_whole(&cluster, &writer.acknowledged);
    assert_eq!(set_aside(&cluster, &node).len(), 1, "one tablet was damaged, once");
    let log = cluster.log(&node);
    assert!(log.contains("damage on the disk: ") && log.contains(": the block is damaged"));
}

/// Writes a checkpoint anew in which one cell has another value: of another table, all of it, or of none.
fn change_a_value(dir: &Path, all_of_it: bool) {
    let cache = Arc::new(storage::Cache::new(1 << 20));
    let options = storage::Options { segment_bytes: 1 << 20, cache };
    let recovered = storage::open(dir, &options).unwrap();
    let checkpoint = recovered.checkpoint.expect("there is a checkpoint");
    let runs = recovered.cells.runs();
    let first = runs.range(Bound::Unbounded, Bound::Unbounded, false).next();
    let (key, kept) = first.expect("the checkpoint has a cell").unwrap();
    let value = Value::Inline(b"another".as_slice().into());
    let (mut changed, mut totals) = (kept.clone(), checkpoint.totals);
    changed.value = Held::Here(value.clone());
    if all_of_it {
        let cell = Cell { version: kept.version, expires: kept.expires, value };
        changed = Table::default().take_in(&key, cell);
        totals.digest = totals.digest.wrapping_sub(kept.hash).wrapping_add(changed.hash);
    }
    let (at, change) = (checkpoint.position, [Ok((key, Some(changed)))].into_iter());
    recovered.cells.flush(at, totals, change, checkpoint.items.into_iter()).unwrap();
}

#[test]
fn a_cell_that_is_not_what_was_written_is_found_though_its_checksum_is_right() {
    let (cluster, mut writer) = start_with_checkpoints();
    let (_, [_, node]) = roles(&cluster, "row0");
    cluster.kill(&node);
    change_a_value(&tablet_dir(&cluster, &node), false);
    cluster.start_again(&node);
    wait_until_set_aside(&cluster, &node);
    writer.write_on(SOME);
    assert_whole(&cluster, &writer.acknowledged);
    assert!(cluster.log(&node).contains(" is not what was written"));
}

#[test]
fn a_copy_that_differs_from_the_primarys_is_set_aside_and_fetched_anew() {
    let (cluster, mut writer) = start_with_checkpoints();
    let (_, [_, node]) = roles(&cluster, "row0");
    cluster.kill(&node);
    change_a_value(&tablet_dir(&cluster, &node), true);
    cluster.start_again(&node);
    wait_until_set_aside(&cluster, &node);
    writer.write_on(SOME);
    assert_whole(&cluster, &writer.acknowledged);
    assert_eq!(set_aside(&cluster, &node).len(), 1, "one tablet differed, at one node");
    assert!(cluster.log(&node).contains(": its table differs from the primary's at version "));
    for other in cluster.backends().iter().filter(|other| **other != node) {
        assert!(set_aside(&cluster, other).is_empty(), "{other} keeps its copy");
    }
}

/// Leaves one copy of the row's tablet, and somebody who writes there.
fn leave_one(cluster: &Cluster) -> ([String; 3], Writer) {
    let (first, [node, second]) = roles(cluster, "row0");
    let mut alone = Writer::at(cluster, &node, "alone").with_row("row0");
    cluster.kill(&first);
    cluster.kill(&second);
    alone.write_on(SOME);
    wait_for_tablets(cluster, "one copy is left", |tablet| tablet.isr == [node.clone()]);
    ([node, first, second], alone)
}

#[test]
fn the_log_of_the_last_copy_is_written_anew() {
    let cluster = Cluster::start_store(|text| {
        read_often(text);
        *text = text.replace("checkpoint_bytes = 1048576", "checkpoint_bytes = 67108864");
    });
    let (_, [other, _]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &other, "w").with_row("row0");
    writer.bytes = 4000;
    writer.write_well(700);
    let ([node, first, second], mut alone) = leave_one(&cluster);
    damage(&cluster, &node, &tablet_of(&cluster.routes(), "row0").id);
    let says = |what: &str| cluster.log(&node).contains(what).then_some(());
    eventually("the damage is found", || says(": damage on the disk: "));
    eventually("a checkpoint takes its place", || says(": no longer: damage on the disk: "));
    alone.write_on(SOME);
    assert_read_through(&cluster, &node, &writer.acknowledged);
    assert!(set_aside(&cluster, &node).is_empty(), "it was the last copy");
    cluster.kill(&node);
    cluster.start_again(&node);
    eventually("it serves alone", || text(&cluster, &node).get("row0", "w-0").ok());
    writer.acknowledged.extend(alone.acknowledged);
    assert_read_through(&cluster, &node, &writer.acknowledged);
    cluster.start_again(&first);
    cluster.start_again(&second);
    assert_whole(&cluster, &writer.acknowledged);
}

#[test]
fn the_last_copy_goes_on_with_what_it_can_read() {
    let (cluster, writer) = start_with_checkpoints();
    let ([node, ..], mut alone) = leave_one(&cluster);
    flip_a_byte(&checkpoint(&cluster, &node).expect("it was just there"));
    let says = |what: &str| cluster.log(&node).contains(what).then_some(());
    eventually("the damage is found", || says(": damage on the disk: "));
    alone.write_on(SOME);
    let mut store = text(&cluster, &node);
    let found = |cell: &super::Cell| match store.get(&cell.row, &cell.column) {
        Ok(Some(_)) => true,
        Err(e) if e.to_string().contains("this copy is damaged") => false,
        other => panic!("{}: {other:?}", cell.column),
    };
    let (read, refused): (Vec<_>, Vec<_>) = writer.acknowledged.into_iter().partition(found);
    assert!(!read.is_empty() && !refused.is_empty(), "{} and {}", read.len(), refused.len());
    assert!(set_aside(&cluster, &node).is_empty(), "it was the last copy");
}
