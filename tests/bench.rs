//! `penncloud bench` measures every case of a running cluster. How fast it is, no test says.

use crate::harness::Cluster;
use penncloud::tools::bench::{self, Settings};
use std::time::Duration;

#[test]
fn every_case_is_measured() {
    let cluster = Cluster::shared();
    let settings = Settings { time: Duration::from_millis(10), value_bytes_max: 1 << 20 };
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
