//! Folders and files over a real cluster: byte for byte, nothing lost, no rings, counters right.

use crate::harness::{Cluster, eventually, noise};
use penncloud::client::{Client, Op, Scan};
use penncloud::drive::{self, Drive, Node, ROOT};
use penncloud::error::Error;
use penncloud::quota::{Quota, count};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

const BYTES_MAX: u64 = 1 << 30;

/// A cluster without frontends: these tests ask the store alone.
fn store() -> &'static Cluster {
    static STORE: OnceLock<Cluster> = OnceLock::new();
    let cut = |text: &mut String| text.truncate(text.find("[[frontend]]").unwrap());
    STORE.get_or_init(|| Cluster::start_with(cut))
}

/// An empty drive of a test's own.
struct Owned {
    client: Client,
    user: String,
    drive: Drive,
}

impl Owned {
    fn new() -> Owned {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let client = Client::new(store().config()).unwrap();
        let user = format!("driver{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let cells = [vec![count(&user, 0)], drive::first_cells(&user)].concat();
        client.batch(user.as_str(), cells).unwrap();
        Owned { drive: Drive::new(&client, &user, Quota::default()), client, user }
    }

    fn folder(&self, parent: Uuid, name: &str) -> Uuid {
        self.drive.make_folder(parent, name).unwrap().expect("the parent is there").id
    }

    fn file(&self, folder: Uuid, name: &str, mut bytes: &[u8]) -> Node {
        self.upload(folder, name, &mut bytes).unwrap().expect("the folder is there")
    }

    /// An upload of unknown length.
    fn upload(&self, folder: Uuid, name: &str, from: &mut dyn Read) -> Result<Option<Node>, Error> {
        let mut room = self.drive.reserve(0, 0)?;
        self.drive.upload(folder, name, from, BYTES_MAX, &mut room)
    }

    /// The same drive, for somebody who may keep so many bytes.
    fn with_quota(self, bytes: u64) -> Owned {
        Owned { drive: Drive::new(&self.client, &self.user, Quota::of(bytes)), ..self }
    }

    /// How much each upload has reserved.
    fn reserved(&self) -> Vec<u64> {
        let (row, prefix) = (self.user.clone().into_bytes(), b"reserve/".to_vec());
        let scan = Scan { row, prefix, limit: 100, values: true, ..Scan::default() };
        let (columns, _) = self.client.scan(scan).unwrap();
        let bytes = columns.into_iter().map(|column| column.value.unwrap().to_vec());
        bytes.map(|digits| String::from_utf8(digits).unwrap().parse().unwrap()).collect()
    }

    fn bytes(&self, file: &Node) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut reader = self.drive.open(file, 0, None).unwrap().expect("the bytes are there");
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Names in a folder, over all pages.
    fn names(&self, folder: Uuid) -> BTreeSet<String> {
        let (mut names, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.drive.list(folder, after.as_deref()).unwrap();
            names.extend(page.entries.into_iter().map(|node| node.name));
            after = page.more_after;
            if after.is_none() {
                return names;
            }
        }
    }

    fn usage(&self) -> i64 {
        let found = self.client.get(self.user.as_str(), "usage", 100).unwrap();
        found.map_or(0, |f| String::from_utf8(f.value).unwrap().parse().unwrap())
    }

    /// Columns of the drive's row.
    fn columns(&self) -> Vec<String> {
        let row = format!("{}/files", self.user).into_bytes();
        let (columns, more) =
            self.client.scan(Scan { row, limit: 1000, ..Scan::default() }).unwrap();
        assert!(!more);
        columns.into_iter().map(|c| String::from_utf8(c.name).unwrap()).collect()
    }

    /// Nothing but the root.
    fn is_bare(&self) -> bool {
        self.columns() == [format!("node/{ROOT}")] && self.usage() == 0
    }
}

#[test]
fn bytes_come_back_as_they_were_at_any_size() {
    let own = Owned::new();
    let cell = store().config().store.cell_bytes as usize;
    let sizes = [0, 1, cell - 1, cell, cell + 1, 3 * cell, 3 * cell + 77];
    for (seed, size) in sizes.into_iter().enumerate() {
        let bytes = noise(seed as u64, size);
        let file = own.file(ROOT, &format!("{size}.bin"), &bytes);
        assert_eq!(file.size, size as u64);
        assert!(own.bytes(&file) == bytes, "{size} bytes came back differently");
    }
    assert_eq!(own.usage(), sizes.iter().sum::<usize>() as i64);
}

#[test]
fn a_range_is_that_part_of_the_file() {
    let own = Owned::new();
    let cell = store().config().store.cell_bytes as usize;
    let bytes = noise(1, 2 * cell + 100);
    let file = own.file(ROOT, "range", &bytes);
    for (offset, length) in
        [(0, 1), (cell - 5, 10), (2 * cell, 100), (cell, cell), (bytes.len() - 1, 1)]
    {
        let mut part = Vec::new();
        let reader = own.drive.open(&file, offset as u64, Some(length as u64)).unwrap();
        reader.unwrap().read_to_end(&mut part).unwrap();
        assert!(part == bytes[offset..offset + length], "{length} bytes at {offset}");
    }
}

#[test]
fn any_name_is_a_name() {
    let own = Owned::new();
    let names = [
        "a b",
        "\"quoted\"",
        "it's",
        "ünï",
        "東京 🗼",
        "a%20b=c",
        "..hidden",
        "\"><img src=x>",
        "-",
        " x ",
    ];
    for name in names {
        own.file(ROOT, name, name.as_bytes());
    }
    assert_eq!(own.names(ROOT), names.iter().map(|n| n.to_string()).collect());
    for name in names {
        let file = own.drive.child(ROOT, name).unwrap().unwrap();
        assert_eq!(own.bytes(&file), name.as_bytes());
    }
    for bad in ["", "..", "a/b", "a\0b"] {
        let made = own.upload(ROOT, bad, &mut &b"x"[..]);
        assert!(matches!(made, Err(Error::Bad(_))), "{bad:?}");
        assert!(matches!(own.drive.make_folder(ROOT, bad), Err(Error::Bad(_))), "{bad:?}");
    }
}

#[test]
fn a_second_file_of_a_name_is_kept_beside_the_first() {
    let own = Owned::new();
    let first = own.file(ROOT, "note.txt", b"first");
    let second = own.file(ROOT, "note.txt", b"second");
    let third = own.file(ROOT, "note.txt", b"third");
    assert_eq!((second.name.as_str(), third.name.as_str()), ("note (2).txt", "note (3).txt"));
    assert_eq!(own.bytes(&first), b"first");
    assert_eq!(own.bytes(&second), b"second");
}

#[test]
fn a_taken_name_is_refused_to_folders_renames_and_moves() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "here");
    let file = own.file(ROOT, "a", b"1");
    own.file(ROOT, "b", b"2");
    own.file(folder, "a", b"3");
    assert!(matches!(own.drive.make_folder(ROOT, "here"), Err(Error::Bad(_))));
    assert!(matches!(own.drive.rename(file.id, "b"), Err(Error::Bad(_))));
    assert!(matches!(own.drive.move_to(file.id, folder), Err(Error::Bad(_))));
    assert_eq!(own.names(ROOT), ["a", "b", "here"].map(String::from).into());
    assert_eq!(own.bytes(&own.drive.node(file.id).unwrap().unwrap()), b"1");
}

#[test]
fn renames_and_moves_touch_no_bytes() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "folder");
    let file = own.file(ROOT, "old", b"bytes");
    let renamed = own.drive.rename(file.id, "new").unwrap().unwrap();
    let moved = own.drive.move_to(file.id, folder).unwrap().unwrap();
    assert_eq!((renamed.data, moved.data), (file.data, file.data));
    assert_eq!(own.bytes(&moved), b"bytes");
    assert_eq!(own.names(ROOT), ["folder".to_string()].into());
    assert_eq!(own.names(folder), ["new".to_string()].into());
    let path = own.drive.path(file.id).unwrap().unwrap();
    let names: Vec<&str> = path.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["", "folder", "new"]);
}

#[test]
fn a_folder_does_not_go_into_itself() {
    let own = Owned::new();
    let outer = own.folder(ROOT, "outer");
    let inner = own.folder(outer, "inner");
    for target in [outer, inner] {
        assert!(matches!(own.drive.move_to(outer, target), Err(Error::Bad(_))));
    }
    let file = own.file(ROOT, "file", b"");
    assert!(matches!(own.drive.move_to(outer, file.id), Err(Error::Bad(_))));
    assert_eq!(own.drive.path(inner).unwrap().unwrap().len(), 3);
}

#[test]
fn the_root_stays() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "folder");
    assert!(matches!(own.drive.remove(ROOT), Err(Error::Bad(_))));
    assert!(matches!(own.drive.rename(ROOT, "x"), Err(Error::Bad(_))));
    assert!(matches!(own.drive.move_to(ROOT, folder), Err(Error::Bad(_))));
}

#[test]
fn two_moves_at_once_make_no_ring() {
    let own = Owned::new();
    for round in 0..15 {
        let a = own.folder(ROOT, &format!("a{round}"));
        let b = own.folder(ROOT, &format!("b{round}"));
        let deep = own.folder(b, "deep");
        std::thread::scope(|scope| {
            let one = scope.spawn(|| own.drive.move_to(a, deep));
            let two = scope.spawn(|| own.drive.move_to(b, a));
            let moved = [one.join().unwrap(), two.join().unwrap()];
            assert!(moved.iter().filter(|m| m.is_ok()).count() <= 1, "{moved:?}");
        });
        for id in [a, b, deep] {
            assert_eq!(own.drive.path(id).unwrap().expect("it leads to the root")[0].id, ROOT);
        }
    }
}

#[test]
fn uploads_at_once_all_appear() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "folder");
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let own = &own;
            scope.spawn(move || {
                for n in 0..5 {
                    own.file(folder, "same.txt", format!("{writer} {n}").as_bytes());
                }
            });
        }
    });
    let names = own.names(folder);
    assert_eq!(names.len(), 30, "{names:?}");
    let contents: BTreeSet<Vec<u8>> = names
        .iter()
        .map(|name| own.bytes(&own.drive.child(folder, name).unwrap().unwrap()))
        .collect();
    assert_eq!(contents.len(), 30);
    assert_eq!(own.usage(), 30 * 3);
}

#[test]
fn a_removed_file_gives_its_room_back() {
    let own = Owned::new();
    let file = own.file(ROOT, "file", &noise(2, 100_000));
    assert_eq!(own.usage(), 100_000);
    assert_eq!(own.drive.remove(file.id).unwrap().unwrap().id, file.id);
    assert!(own.drive.node(file.id).unwrap().is_none());
    assert!(own.drive.open(&file, 0, None).unwrap().is_none());
    assert!(own.drive.remove(file.id).unwrap().is_none(), "a second time there is nothing");
    assert!(own.is_bare(), "{:?}", own.columns());
}

#[test]
fn a_removed_folder_takes_everything_with_it() {
    let own = Owned::new();
    let top = own.folder(ROOT, "top");
    let (mut at, mut n) = (top, 0);
    for depth in 0..4 {
        for _ in 0..20 {
            own.file(at, &format!("{n}"), b"x");
            n += 1;
        }
        at = own.folder(at, &format!("level {depth}"));
    }
    own.drive.remove(top).unwrap().unwrap();
    assert!(own.names(ROOT).is_empty(), "it is out of sight at once");
    eventually("its contents are swept", || {
        drive::sweep(&own.client, &own.user);
        own.is_bare().then_some(())
    });
}

#[test]
fn two_who_sweep_at_once_count_once() {
    let own = Owned::new();
    own.file(ROOT, "stays", b"12345");
    let top = own.folder(ROOT, "top");
    for n in 0..60 {
        own.file(top, &format!("{n}"), b"xyz");
    }
    let row = format!("{}/files", own.user);
    let cut_off = vec![
        Op::delete(row.as_str(), format!("child/{ROOT}/top")),
        Op::delete(row.as_str(), format!("node/{top}")),
        Op::put(row.as_str(), format!("gone/{top}"), ""),
    ];
    own.client.batch(own.user.as_str(), cut_off).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drive::sweep(&own.client, &own.user));
        }
    });
    drive::sweep(&own.client, &own.user);
    assert_eq!(own.usage(), 5);
    assert_eq!(own.columns().len(), 4, "{:?}", own.columns());
}

#[test]
fn nothing_is_put_into_a_folder_that_is_gone() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "folder");
    own.drive.remove(folder).unwrap().unwrap();
    assert!(own.upload(folder, "x", &mut &b"x"[..]).unwrap().is_none());
    assert!(own.drive.make_folder(folder, "x").unwrap().is_none());
    let file = own.file(ROOT, "file", b"");
    assert!(own.drive.move_to(file.id, folder).unwrap().is_none());
    assert!(own.upload(file.id, "x", &mut &b"x"[..]).unwrap().is_none());
}

#[test]
fn an_upload_that_fails_leaves_nothing() {
    let own = Owned::new();
    let mut breaks = io::Read::chain(io::repeat(7).take(3 << 20), Breaks);
    assert!(own.upload(ROOT, "half", &mut breaks).is_err());
    let (mut big, mut room) = (io::repeat(7).take(5 << 20), own.drive.reserve(0, 0).unwrap());
    let too_big = own.drive.upload(ROOT, "big", &mut big, 4 << 20, &mut room);
    assert!(matches!(too_big, Err(Error::TooBig(_))), "{too_big:?}");
    assert!(own.is_bare(), "{:?}", own.columns());
}

/// A connection that breaks.
struct Breaks;

impl Read for Breaks {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_long_folder_comes_in_pages_without_gap_or_repeat() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "long");
    let names: BTreeSet<String> = (0..450).map(|n| format!("entry {n} & more")).collect();
    let row = format!("{}/files", own.user);
    let node = own.drive.node(folder).unwrap().unwrap();
    let names: Vec<&String> = names.iter().collect();
    for chunk in names.chunks(100) {
        let items = chunk.iter().flat_map(|name| {
            let id = Uuid::now_v7();
            let entry = Node { id, parent: folder, name: name.to_string(), ..node.clone() };
            let json = serde_json::to_vec(&entry).unwrap();
            [
                Op::put(row.as_str(), format!("node/{id}"), json),
                Op::put(row.as_str(), format!("child/{folder}/{name}"), id.to_string()),
            ]
        });
        own.client.batch(own.user.as_str(), items.collect()).unwrap();
    }
    assert_eq!(own.names(folder).len(), 450);
    let first = own.drive.list(folder, None).unwrap();
    assert_eq!(first.entries.len(), drive::PAGE_ENTRIES);
    assert!(first.entries.is_sorted_by_key(|node| node.name.to_lowercase()));
}

const MB: u64 = 1_000_000;

/// Whether something was refused for the quota.
fn is_over<T>(made: Result<T, Error>) -> bool {
    matches!(made, Err(Error::Quota { .. }))
}

#[test]
fn files_never_take_more_than_the_quota() {
    let own = Owned::new().with_quota(2 * MB);
    let first = own.file(ROOT, "first", &noise(1, 1_500_000));
    assert!(is_over(own.upload(ROOT, "second", &mut &noise(2, 600_000)[..])));
    assert!(is_over(own.upload(ROOT, "endless", &mut io::repeat(7))), "it stops when it is over");
    own.file(ROOT, "last", &noise(3, 500_000));
    assert!(is_over(own.upload(ROOT, "one byte", &mut &b"x"[..])));
    own.file(ROOT, "empty", b"");
    assert_eq!((own.usage(), own.reserved()), (2_000_000, vec![]));
    own.drive.remove(first.id).unwrap().unwrap();
    own.file(ROOT, "second", &noise(2, 600_000));
    assert_eq!((own.usage(), own.reserved()), (1_100_000, vec![]));
}

#[test]
fn small_files_that_are_committed_at_once_stay_within_the_quota() {
    let own = Owned::new().with_quota(50_000);
    let made: Vec<_> = std::thread::scope(|scope| {
        let own = &own;
        let upload = |n: usize| own.upload(ROOT, &format!("{n}"), &mut &noise(4, 9_000)[..]);
        let uploads: Vec<_> = (0..8).map(|n| scope.spawn(move || upload(n))).collect();
        uploads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let n = made.iter().filter(|file| file.is_ok()).count();
    assert!(n <= 5, "{made:?}");
    assert_eq!((own.usage(), own.names(ROOT).len()), (n as i64 * 9_000, n));
}

#[test]
fn uploads_that_go_on_together_do_not_go_over_together() {
    let own = Owned::new().with_quota(2 * MB);
    let first = own.drive.reserve(1_200_000, 1_200_000).unwrap();
    assert!(is_over(own.drive.reserve(1_200_000, 1_200_000)), "it would not fit beside the first");
    let second = own.drive.reserve(700_000, 1_200_000).unwrap();
    assert_eq!(own.reserved().iter().sum::<u64>(), 2 * MB, "it takes what there is");
    assert!(is_over(own.upload(ROOT, "third", &mut &noise(5, 200_000)[..])));
    drop(first);
    own.file(ROOT, "third", &noise(5, 200_000));
    drop(second);
    assert_eq!((own.usage(), own.reserved()), (200_000, vec![]));
}

#[test]
fn who_reserves_at_once_gets_no_more_than_there_is() {
    let own = Owned::new().with_quota(2 * MB);
    let all: Vec<_> = std::thread::scope(|scope| {
        let reserve = || own.drive.reserve(900_000, 900_000);
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(reserve)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let got = all.iter().filter(|one| one.is_ok()).count();
    assert_eq!((got, own.reserved()), (2, vec![900_000; 2]));
    assert!(all.into_iter().filter(|one| one.is_err()).all(is_over));
}

#[test]
fn what_is_left_of_a_reservation_serves_the_next_file() {
    let own = Owned::new().with_quota(2 * MB);
    let mut room = own.drive.reserve(2 * MB, 2 * MB).unwrap();
    for (name, bytes, left) in [
        ("first", 800_000, vec![1_200_000]),
        ("second", 800_000, vec![400_000]),
        ("third", 400_000, vec![]),
    ] {
        let bytes = noise(7, bytes);
        let made = own.drive.upload(ROOT, name, &mut &bytes[..], BYTES_MAX, &mut room);
        made.unwrap().expect("the folder is there");
        assert_eq!(own.reserved(), left, "after the {name}");
    }
    assert_eq!(own.usage(), 2_000_000);
}

#[test]
fn the_reservation_of_a_dead_writer_expires() {
    let own = Owned::new().with_quota(MB);
    let of_the_dead = Op::put(own.user.as_str(), "reserve/dead", "900000").with_ttl(1);
    own.client.write(of_the_dead).unwrap();
    let bytes = noise(6, 500_000);
    eventually("there is room again", || own.upload(ROOT, "file", &mut &bytes[..]).ok());
    assert!(own.reserved().is_empty());
}

#[test]
fn deleting_works_above_the_quota() {
    let own = Owned::new();
    let folder = own.folder(ROOT, "folder");
    let (file, inner) = (own.file(ROOT, "file", &[7; 900]), own.file(folder, "inner", &[7; 500]));
    let own = own.with_quota(1000);
    assert!(is_over(own.upload(ROOT, "more", &mut &b"x"[..])));
    own.drive.move_to(file.id, folder).unwrap().unwrap();
    own.drive.rename(inner.id, "other").unwrap().unwrap();
    own.drive.remove(inner.id).unwrap().unwrap();
    own.file(ROOT, "more", &[7; 100]);
    own.drive.remove(folder).unwrap().unwrap();
    eventually("its contents are swept", || (own.usage() == 100).then_some(()));
}
