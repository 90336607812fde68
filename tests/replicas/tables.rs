//! Tables of the master that are not the newest: what was decided after them is not decided again.

use super::*;
use crate::harness::PATIENCE;
use std::path::Path;

/// Long enough for a master to find out who is dead, and to elect.
const TIME_TO_ELECT: Duration = Duration::from_secs(5);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// All die after others have taken over from the first primary, and come back with the master's tables replaced: by
/// those of before, or by none. Then with the right ones.
fn wrong_tables(replace: fn(&Path, &Path), complaint: &str) {
    let cluster = Cluster::start_store(|_| {});
    let (first, [node, _]) = roles(&cluster, "row0");
    let mut writer = Writer::at(&cluster, &node, "w").with_row("row0");
    let (tables, spare) = (cluster.config().data_dir("m1"), tempfile::tempdir().unwrap());
    let (old, new) = (spare.path().join("old"), spare.path().join("new"));
    cluster.kill("m1");
    copy(&tables, &old);
    cluster.start_again("m1");
    cluster.kill(&first);
    writer.write_on(SOME);
    cluster.kill("m1");
    let backends = cluster.backends();
    backends.iter().filter(|backend| **backend != first).for_each(|backend| cluster.kill(backend));
    copy(&tables, &new);
    fs::remove_dir_all(&tables).unwrap();
    replace(&old, &tables);
    cluster.start_again("m1");
    backends.iter().for_each(|backend| cluster.start_again(backend));
    eventually("the master finds it", || cluster.log("m1").contains(complaint).then_some(()));
    std::thread::sleep(TIME_TO_ELECT);
    let mut text = cluster.connect_within(&first, PATIENCE).unwrap();
    assert!(text.get("row0", "w-0").is_err(), "nobody decides who has what was acknowledged");
    cluster.kill("m1");
    fs::remove_dir_all(&tables).unwrap();
    copy(&new, &tables);
    cluster.start_again("m1");
    assert_whole(&cluster, &writer.acknowledged);
}

#[test]
fn old_tables_decide_nothing() {
    wrong_tables(copy, ": the master's tables are old: ");
}

#[test]
fn tables_of_another_cluster_decide_nothing() {
    wrong_tables(
        |_, _| {},
        ": the master's tables are not those of this cluster; nothing is changed",
    );
}
