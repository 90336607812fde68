//! What a tablet does around its replica.

use super::*;

fn alone(epoch: u64) -> Configuration {
    let alone = BTreeSet::from(["a1".into()]);
    let primary = Some("a1".into());
    Configuration {
        epoch,
        primary,
        isr: alone.clone(),
        members: alone,
        min_insync: 1,
        clean: false,
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a tablet's directory");
    files.map(|file| file.and_then(|f| f.metadata()).map_or(0, |m| m.len())).sum()
}

#[test]
fn a_low_disk_gets_back_what_was_deleted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let deadline = Instant::now() + Duration::from_secs(60);
    let limits = config::Store { segment_bytes: 1 << 20, ..config::Store::default() };
    let reserve = limits.disk_reserve_bytes;
    let around = Surroundings {
        node: "a1".into(),
        limits,
        free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
        freeing: Arc::default(),
    };
    let tablet = Tablet::open("a-s0", dir.path(), &around).expect("opened");
    tablet.configure(alone(1));
    while tablet.serving().is_err() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let write = |op: Op| {
        let write = Write { ops: vec![op], single: true, options: Options::default() };
        assert!(matches!(tablet.propose(write, deadline), Outcome::Done(_)));
    };
    for n in 0..40 {
        let (row, column) = (b"r".to_vec(), format!("c{n}").into_bytes());
        let value = vec![7; 256 << 10];
        write(Op::Put { row, column, value, if_version: None, ttl: None });
    }
    write(Op::DeleteRow { row: b"r".to_vec() });
    assert!(bytes_in(dir.path()) > 10 << 20);
    around.free_bytes.store(reserve - 1, Ordering::Relaxed);
    while bytes_in(dir.path()) > 3 << 20 {
        assert!(Instant::now() < deadline, "{} bytes are kept", bytes_in(dir.path()));
        std::thread::yield_now();
    }
}

#[test]
fn the_replica_hears_the_master_while_the_log_is_slow() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (to_log, batches) = bounded(1);
    let (control, events) = bounded(CONTROL_MAX);
    let (_inbox, asked) = bounded(INBOX_MAX);
    let view = Arc::new(RwLock::new(View::default()));
    let shell = Shell {
        id: "a-s0".into(),
        dir: dir.path().into(),
        around: Surroundings {
            node: "a1".into(),
            limits: config::Store::default(),
            free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
            freeing: Arc::default(),
        },
        replica: Replica::recover(
            "a1".into(),
            (Rules::ALL, TIMING),
            boot_time(),
            Default::default(),
            Table::default(),
            Vec::new(),
        ),
        view: view.clone(),
        to_log,
        to_self: control.clone(),
        open: HashMap::new(),
        next: 0,
        checkpoints: Checkpoints::default(),
        freed: None,
        freeing: false,
    };
    std::thread::spawn(move || shell.run(&events, &asked));
    for epoch in 1..=2 * CONTROL_MAX as u64 {
        let event = Event::Configure(alone(epoch));
        let heard = control.send_timeout(event, Duration::from_secs(10));
        assert!(heard.is_ok(), "epoch {epoch} is heard");
    }
    let role = view.read().expect("the thread lives").role();
    assert_eq!(role, Role::Learner, "its first entry is not on disk, and it is not sealed");
    let barriers = batches.iter().map(|batch| batch.entries.len());
    let mut left = 2 * CONTROL_MAX;
    assert!(barriers.into_iter().any(|n| {
        left -= n;
        left == 0
    }));
}
