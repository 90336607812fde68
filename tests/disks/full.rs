//! Disks that are full: what grows is refused, what shrinks goes on, no process ends, and nothing is lost.

use super::*;
use std::fs;
use std::path::PathBuf;

/// Large cells fill a disk fast.
fn large_cells(configuration: &mut String) {
    three_tablets(configuration);
    *configuration = configuration.replace("cell_bytes = 4096", "cell_bytes = 65536");
}

#[test]
fn a_full_disk_of_a_primary_refuses_writes_until_something_is_deleted() {
    full_disk("full disk of a primary", "a1");
}

#[test]
fn a_full_disk_of_a_replica_refuses_writes_until_something_is_deleted() {
    full_disk("full disk of a replica", "a2");
}

/// Fills the disk of `a1` with cells of a tablet whose primary is another or the same, and deletes them again.
fn full_disk(test: &str, primary: &str) {
    let Some(disk) = disk(test, 128) else { return };
    let cluster = Cluster::start_store_on(&[("a1", &disk)], large_cells);
    let row = row_on(&cluster, primary);
    let mut store = Text::connect(&cluster.address("a2")).unwrap();
    disk.fill(48);
    let mut written = fill(&mut store, &row);
    assert!(written > 10, "the disk was full from the beginning: {written}");
    assert!(store.get(&row, &format!("c{written}")).unwrap().is_none(), "it was refused");
    while written > 10 {
        written -= 1;
        let answer = store.ask(format!("DELETE {row} c{written}")).unwrap();
        assert!(answer.starts_with("OK "), "{answer}");
    }
    eventually("there is room again", || store.put(&row, "after", &value_of(1000)).ok());
    assert_eq!(Text::connect(&cluster.address("a1")).unwrap().ask("PING").unwrap(), "PONG");
    cluster.kill("a1");
    cluster.start_again("a1");
    cluster.wait_in_service();
    for i in 0..written {
        let (_, found) = store.get(&row, &format!("c{i}")).unwrap().expect("it was acknowledged");
        assert!(found == value_of(i), "c{i} has changed");
    }
    assert!(store.get(&row, "after").unwrap().is_some(), "it was acknowledged");
    assert!(store.get(&row, "c10").unwrap().is_none(), "it was deleted");
}

/// Writes cells until the disk is full; how many were acknowledged.
fn fill(store: &mut Text, row: &str) -> usize {
    for i in 0..2000 {
        match store.put(row, &format!("c{i}"), &value_of(i)) {
            Ok(_) => {}
            Err(why) if why.to_string().starts_with("NOSPACE") => return i,
            Err(why) => panic!("c{i}: {why}"),
        }
    }
    panic!("the disk does not fill up")
}

fn value_of(i: usize) -> Vec<u8> {
    noise(i as u64, 60_000)
}

#[test]
fn a_disk_that_others_have_filled_harms_nothing() {
    let Some(disk) = disk("disk filled by others", 96) else { return };
    let cluster = Cluster::start_store_on(&[("a1", &disk)], three_tablets);
    let load = Load::new(&cluster);
    load.during(|| load.wait_for(BEFORE, "the start"));
    let rows = ["a1", "a2"].map(|primary| row_on(&cluster, primary));
    let mut store = Text::connect(&cluster.address("a1")).unwrap();
    disk.fill(0);
    for row in &rows {
        eventually("writes are refused", || {
            let refused = store.put(row, "new", &[0; 4000]).err()?.to_string();
            assert!(refused.starts_with("NOSPACE"), "{refused}");
            Some(())
        });
        assert!(store.get(row, "probe").unwrap().is_some());
        assert!(store.ask(format!("DELETE {row} probe")).unwrap().starts_with("OK "));
    }
    disk.relieve();
    for row in &rows {
        eventually("writes are taken again", || store.put(row, "new", &[0; 4000]).ok());
    }
    load.assert_whole();
}

/// Columns with long names: deleting them takes more of a log than the two segments that are there.
const COLUMNS: usize = 4000;
/// Items of a batch.
const BATCH: usize = 250;

/// A batch of one kind of item for each of some columns of a row.
fn batch(row: &str, columns: std::ops::Range<usize>, item: &str, bytes: &str) -> String {
    let mut lines = format!("BATCH {row} {}\n", columns.len());
    for i in columns {
        lines += &format!("{item} {row} {i:0>1000}{bytes}\n");
    }
    lines
}

fn ballast(cluster: &Cluster) -> PathBuf {
    cluster.config().data_dir("a1").join("ballast")
}

/// Whether a node says in STATUS what is wrong.
fn says(cluster: &Cluster, name: &str, what: &str) -> Option<()> {
    let lines = Text::connect(&cluster.address(name)).ok()?.lines("STATUS").ok()?;
    lines.iter().any(|line| line.contains(what)).then_some(())
}

#[test]
fn deletes_on_a_disk_without_a_free_block_go_on_in_the_room_of_the_ballast() {
    let Some(disk) = disk("deletes on a full disk", 96) else { return };
    let cluster = Cluster::start_store_on(&[("a1", &disk)], large_cells);
    let row = row_on(&cluster, "a1");
    let mut store = Text::connect(&cluster.address("a1")).unwrap();
    let mut write = |item: &str, bytes: &str| {
        for from in (0..COLUMNS).step_by(BATCH) {
            let answer = store.ask(batch(&row, from..from + BATCH, item, bytes)).unwrap();
            assert!(answer.starts_with("OK "), "{item} {from}: {answer}");
        }
    };
    write("PUT", " 1\nx");
    eventually("the ballast is held", || ballast(&cluster).exists().then_some(()));
    disk.fill_up();
    eventually("the disk is seen to be full", || says(&cluster, "a1", "the disk is full"));
    write("DELETE", "");
    assert!(!ballast(&cluster).exists(), "all was deleted without it: this shows nothing");
    disk.relieve();
    eventually("writes are taken again", || store.put(&row, "new", &[0; 4000]).ok());
    eventually("the ballast is held again", || ballast(&cluster).exists().then_some(()));
    cluster.kill("a1");
    cluster.start_again("a1");
    cluster.wait_in_service();
    let mut store = Text::connect(&cluster.address("a1")).unwrap();
    let found = store.ask(format!("SCAN {row} prefix=0")).unwrap();
    assert_eq!(found, "COLUMNS 0 more=0");
    assert_eq!(store.get(&row, "new").unwrap().expect("it was acknowledged").1, [0; 4000]);
}

#[test]
fn a_store_starts_on_disks_without_a_free_block() {
    let test = "a start on full disks";
    let [Some(a1), Some(a2), Some(a3)] = [(); 3].map(|()| disk(test, 96)) else { return };
    let disks = [("a1", &a1), ("a2", &a2), ("a3", &a3)];
    let cluster = Cluster::start_store_on(&disks, three_tablets);
    let load = Load::new(&cluster);
    load.during(|| load.wait_for(BEFORE, "the start"));
    let row = row_on(&cluster, "a1");
    eventually("the ballast is held", || ballast(&cluster).exists().then_some(()));
    disks.iter().for_each(|(name, _)| cluster.kill(name));
    disks.iter().for_each(|(_, disk)| disk.fill_up());
    disks.iter().for_each(|(name, _)| cluster.start_again(name));
    load.assert_whole();
    let mut store = Text::connect(&cluster.address("a2")).unwrap();
    eventually("writes are refused", || {
        let refused = store.put(&row, "new", &[0; 4000]).err()?.to_string();
        refused.starts_with("NOSPACE").then_some(())
    });
    eventually("deletes are taken", || {
        let answer = store.ask(format!("DELETE {row} probe")).unwrap();
        (answer.starts_with("OK ") || answer == "NOTFOUND").then_some(())
    });
    assert!(store.get(&row, "probe").unwrap().is_none());
    disks.iter().for_each(|(name, _)| says(&cluster, name, "the disk is full").expect(name));
    disks.iter().for_each(|(_, disk)| disk.relieve());
    eventually("writes are taken again", || store.put(&row, "new", &[0; 4000]).ok());
    load.assert_whole();
}

#[test]
fn a_tablet_that_cannot_be_opened_on_a_full_disk_is_when_there_is_room() {
    let Some(disk) = disk("opening a tablet on a full disk", 96) else { return };
    let cluster = Cluster::start_store_on(&[("a1", &disk)], three_tablets);
    let load = Load::new(&cluster);
    load.during(|| load.wait_for(BEFORE, "the start"));
    let row = row_on(&cluster, "a1");
    let tablet = cluster.routes().tablet_of_row(row.as_bytes()).unwrap().id.clone();
    let mark = cluster.config().data_dir("a1").join("tablets").join(tablet).join("durable");
    eventually("the ballast is held", || ballast(&cluster).exists().then_some(()));
    cluster.kill("a1");
    fs::remove_file(&mark).expect("a file that will have to be made");
    fs::remove_file(ballast(&cluster)).expect("it was just there");
    disk.fill_up();
    cluster.start_again("a1");
    eventually("it says why", || says(&cluster, "a1", "the disk is too full to open it"));
    let mut store = Text::connect(&cluster.address("a2")).unwrap();
    eventually("the others go on without it", || store.put(&row, "new", &value_of(0)).ok());
    load.assert_whole();
    assert!(!mark.exists(), "there was room, this shows nothing");
    disk.relieve();
    eventually("it is opened", || mark.exists().then_some(()));
    load.during(|| load.wait_for(AFTER, "there is room again"));
    load.assert_whole();
}

/// More than a primary keeps of its log for those who come back.
const MISSED: usize = (16 << 20) / 60_000 * 5 / 4;

#[test]
fn a_replica_without_room_for_a_table_waits_until_there_is_some() {
    let Some(disk) = disk("a table on a full disk", 128) else { return };
    let cluster = Cluster::start_store_on(&[("a1", &disk)], large_cells);
    let row = row_on(&cluster, "a2");
    let mut store = Text::connect(&cluster.address("a2")).unwrap();
    cluster.kill("a1");
    eventually("the others go on", || store.put(&row, "first", b"x").ok());
    for i in 0..MISSED {
        store.put(&row, &format!("c{i}"), &value_of(i)).expect("the others' disks have room");
    }
    disk.fill(8);
    cluster.start_again("a1");
    let no_room = "too full to take the primary's table";
    eventually("it says why it stays behind", || says(&cluster, "a1", no_room));
    eventually("so does the master", || says(&cluster, "m1", no_room));
    store.put(&row, "second", &value_of(0)).expect("nobody waits for it");
    disk.relieve();
    eventually("it takes the table", || {
        let mut copy = Text::connect(&cluster.address("a1")).ok()?;
        copy.get(&row, "second local=1").ok()?
    });
    eventually("nothing is wrong any more", || {
        says(&cluster, "a1", no_room).is_none().then_some(())
    });
    assert!(cluster.log("a1").contains(": takes the table of version "), "this shows nothing");
}
