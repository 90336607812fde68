//! `penncloud bench` measures every case of a running cluster. How fast it is, no test says.

use crate::harness::Cluster;
use penncloud::tools::bench::{self, Comparison, Settings, failover, http, replicated, volume};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn every_case_is_measured() {
    let cluster = Cluster::shared();
    let settings = Settings { time: Duration::from_millis(10), flight_bytes_max: 8 << 20 };
    let mut table = Vec::new();
    bench::run(cluster.config(), &settings, &mut table).expect("the cluster is measured");
    let table = String::from_utf8(table).expect("text");
    assert!(!table.contains("failed"), "{table}");
    for case in [
        "limit: fdatasync",
        "PUT 100 B ",
        "GET 1 MiB ",
        "GET /login ",
        "GET /files, signed in ",
        "upload 1 MiB ",
        "download 1 MiB ",
        "SMTP message ",
    ] {
        assert!(table.contains(case), "{case:?} is missing:\n{table}");
    }
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_penncloud").into()
}

#[test]
fn replicated_cases_are_measured_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Comparison {
        program: program(),
        dir: dir.path().into(),
        time: Duration::from_millis(10),
        only: "100 B, 16".into(),
    };
    let mut table = Vec::new();
    replicated::run(&settings, &mut table).expect("the stores are measured");
    let table = String::from_utf8(table).expect("text");
    assert!(!table.contains("failed"), "{table}");
    for case in ["PUT 100 B          16 PennCloud ", "GET 100 B          16 PennCloud "] {
        assert!(table.contains(case), "{case:?} is missing:\n{table}");
    }
    for other in ["etcd", "Redis"] {
        let rows = table.lines().filter(|line| line.starts_with(&format!("{:22}{other} ", "")));
        assert_eq!(rows.count(), 2, "{other}:\n{table}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn a_store_with_much_data_is_measured_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = volume::Settings {
        program: program(),
        dir: dir.path().into(),
        cells: 2000,
        overwrites: 1,
        large_bytes: 3_000_000,
        memory_limit_bytes: 128 << 20,
        time: Duration::from_millis(10),
    };
    let mut table = Vec::new();
    volume::run(&settings, &mut table).expect("the store is measured");
    let table = String::from_utf8(table).expect("text");
    for line in [
        "write 4000 cells of 100 B ",
        "written for each byte of the log ",
        "GET in memory ",
        "GET anywhere ",
        "SCAN of 100 cells, anywhere ",
        "PUT 3 MB ",
        "GET 3 MB ",
        "GET 1 KB in the middle of 3 MB ",
        "start of a node with 2004 cells ",
        "most resident, of 128 MiB ",
    ] {
        assert!(table.contains(line), "{line:?} is missing:\n{table}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn pages_are_measured_beside_the_least_server() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Comparison {
        program: program(),
        dir: dir.path().into(),
        time: Duration::from_millis(10),
        only: ", 16".into(),
    };
    let mut table = Vec::new();
    http::run(&settings, &mut table).expect("the servers are measured");
    let table = String::from_utf8(table).expect("text");
    assert!(!table.contains("failed"), "{table}");
    for page in ["a file of 242 B", "a redirect", "an inbox of 60"] {
        for how in ["kept", "one each"] {
            let case = format!("{:28}    16 PennCloud ", format!("{page}, {how}"));
            assert!(table.contains(&case), "{case:?} is missing:\n{table}");
        }
    }
    assert_eq!(table.matches(" bare loop ").count(), 6 + 1, "{table}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn failovers_are_measured_for_writes_and_reads() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = failover::Settings { program: program(), dir: dir.path().into(), runs: 1 };
    let mut table = Vec::new();
    failover::run(&settings, &mut table).expect("clients are served again");
    let table = String::from_utf8(table).expect("text");
    for case in ["kill -9: writes ", "kill -9: reads ", "SHUTDOWN: writes ", "SHUTDOWN: reads "] {
        assert!(table.contains(case), "{case:?} is missing:\n{table}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}
