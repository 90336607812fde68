//! `penncloud kv` as people and scripts use it: the real program, against a real store; and against backends that
//! follow a script where the store must fail at the right moment.

use crate::harness::scripted::Act::{self, Answer, Close, Sends};
use crate::harness::{Cluster, Scripted, Text, eventually, noise};
use penncloud::client::{BATCH_ITEMS_MAX, Client, LIMIT_MAX, Op};
use penncloud::error::Error;
use penncloud::protocol::reply::Reply;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Many cells of the shared cluster, and more than a progress bar needs.
const BIG_BYTES: usize = 5 << 20;

/// An owner of a test's own: tests share a cluster.
fn owner(name: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("tool-{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The program with the configuration of a cluster.
struct Tool {
    config: PathBuf,
    _scripted: Option<Scripted>,
}

/// What a run came to.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Tool {
    fn of(cluster: &Cluster) -> Tool {
        Tool { config: cluster.config_path(), _scripted: None }
    }

    /// Of backends that follow a script.
    fn scripted(script: Vec<Act>) -> Tool {
        let scripted = Scripted::start(script);
        Tool { config: scripted.config_path(), _scripted: Some(scripted) }
    }

    fn start(&self, arguments: &[&str], stdin: impl Into<Stdio>) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penncloud"));
        command.args(["kv", "--config"]).arg(&self.config).args(arguments).stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program can be started")
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(self.start(arguments, Stdio::null()))
    }

    /// Runs a command that is done; what it printed.
    fn does(&self, arguments: &[&str]) -> Vec<u8> {
        let said = self.run(arguments);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}");
        said.out
    }

    /// The same, as lines.
    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.does(arguments)).expect("lines are UTF-8");
        text.lines().map(String::from).collect()
    }

    /// Runs a command that ends with this code and prints nothing; the sentence that it says.
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.out.is_empty(), "{arguments:?}: {said:?}");
        said.err
    }

    /// Puts what goes through a pipe.
    fn pipes(&self, arguments: &[&str], value: &[u8]) -> Said {
        let mut child = self.start(arguments, Stdio::piped());
        let mut pipe = child.stdin.take().expect("a pipe");
        std::thread::scope(|scope| {
            scope.spawn(move || pipe.write_all(value));
            said(child)
        })
    }
}

fn said(child: Child) -> Said {
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Said { code: output.status.code(), out: output.stdout, err }
}

fn is_absent(cluster: &Cluster, row: &str, column: &str) -> bool {
    let mut store = Text::connect(&cluster.address("a1")).unwrap();
    store.ask(format!("GET {row} {column}")).unwrap() == "NOTFOUND"
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

#[test]
fn what_is_put_is_got() {
    let (cluster, row) = (Cluster::shared(), owner("round"));
    let tool = Tool::of(&cluster);
    let version = tool.lines(&["put", &row, "c", "hello"]).concat();
    assert_eq!(tool.does(&["get", &row, "c"]), b"hello");
    let with_version = tool.run(&["get", &row, "c", "--version"]);
    assert_eq!(with_version.err, format!("version {version}\n"));
    assert_eq!(tool.does(&["get", &row, "c", "--offset", "1", "--length", "3"]), b"ell");
    assert_eq!(tool.does(&["get", &row, "c", "--offset", "9"]), b"");
    tool.does(&["put", &row, "empty", ""]);
    assert_eq!(tool.does(&["get", &row, "empty"]), b"");
    tool.does(&["put", &row, "negative", "-5"]);
    assert_eq!(tool.does(&["get", &row, "negative"]), b"-5");
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(tool.pipes(&["put", &row, "bytes", "-"], &all).code, Some(0));
    assert_eq!(tool.does(&["get", &row, "bytes"]), all);
    assert_eq!(tool.pipes(&["put", &row, "nothing", "-"], b"").code, Some(0));
    assert_eq!(tool.does(&["get", &row, "nothing"]), b"");
}

#[test]
fn big_values_come_from_files_and_pipes_and_go_to_files() {
    let (cluster, row) = (Cluster::shared(), owner("big"));
    let (tool, dir) = (Tool::of(&cluster), tempfile::tempdir().unwrap());
    let (value, file) = (noise(21, BIG_BYTES), dir.path().join("value"));
    fs::write(&file, &value).unwrap();
    tool.does(&["put", &row, "file", "--file", path(&file)]);
    let piped = tool.pipes(&["put", &row, "pipe", "-"], &value);
    assert_eq!((piped.code, piped.err.as_str()), (Some(0), ""));
    assert!(tool.does(&["get", &row, "file"]) == value);
    let got = dir.path().join("got");
    fs::write(&got, "what was there before").unwrap();
    tool.does(&["get", &row, "pipe", "-o", path(&got)]);
    assert!(fs::read(&got).unwrap() == value);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no .part is left");
    let (offset, length) = (BIG_BYTES / 2 - 7, 99_999);
    let range = ["--offset", &offset.to_string(), "--length", &length.to_string()];
    let part = tool.does(&[&["get", &row, "file"], &range[..]].concat());
    assert!(part == value[offset..offset + length]);
}

#[test]
fn conditions_end_with_one_and_say_the_version() {
    let (cluster, row) = (Cluster::shared(), owner("condition"));
    let tool = Tool::of(&cluster);
    assert!(tool.ends(1, &["get", &row, "c"]).contains("not found"));
    assert!(tool.ends(1, &["delete", &row, "c"]).contains("not found"));
    assert!(tool.ends(1, &["delete-row", &row]).contains("not found"));
    let none = tool.ends(1, &["cput", &row, "c", "old", "new"]);
    assert!(none.contains("no such cell (version 0)"), "{none}");
    let first = tool.lines(&["put", &row, "c", "a", "--if", "0"]).concat();
    let is_first = |said: String| assert!(said.ends_with(&format!("version {first}\n")), "{said}");
    is_first(tool.ends(1, &["put", &row, "c", "x", "--if", "0"]));
    is_first(tool.ends(1, &["cput", &row, "c", "x", "b"]));
    is_first(tool.ends(1, &["delete", &row, "c", "--if", "1000000"]));
    let second = tool.lines(&["cput", &row, "c", "a", "b"]).concat();
    assert_eq!(tool.does(&["get", &row, "c"]), b"b");
    let big = tool.pipes(&["put", &row, "c", "-", "--if", "0"], &noise(1, 200_000));
    assert_eq!(big.code, Some(1), "{big:?}");
    assert!(big.err.ends_with(&format!("version {second}\n")), "{big:?}");
    tool.does(&["delete", &row, "c", "--if", &second]);
    tool.does(&["put", &row, "d", "x"]);
    tool.does(&["delete-row", &row]);
    assert!(is_absent(&cluster, &row, "c") && is_absent(&cluster, &row, "d"));
}

#[test]
fn sums_columns_and_times_to_live() {
    let (cluster, row) = (Cluster::shared(), owner("numbers"));
    let tool = Tool::of(&cluster);
    assert_eq!(tool.lines(&["add", &row, "n", "5"]), ["5"]);
    assert_eq!(tool.lines(&["add", &row, "n", "-7"]), ["-2"]);
    assert_eq!(tool.lines(&["add", &row, "n", "2", "--max", "0"]), ["0"]);
    let over = tool.ends(3, &["add", &row, "n", "1", "--max", "0"]);
    assert!(over.contains("QUOTA: 0 max=0; it was not executed"), "{over}");
    assert_eq!(tool.lines(&["append", &row, "a b/", "one"]), ["a%20b/000000000001"]);
    assert_eq!(tool.does(&["get", &row, "a%20b/000000000001"]), b"one");
    tool.does(&["put", &row, "short", "x", "--ttl", "1"]);
    eventually("the cell expires", || is_absent(&cluster, &row, "short").then_some(()));
}

#[test]
fn what_is_wrong_with_the_command_ends_with_two() {
    let (cluster, row) = (Cluster::shared(), owner("usage"));
    let (tool, dir) = (Tool::of(&cluster), tempfile::tempdir().unwrap());
    let nowhere = path(&dir.path().join("no/such/file")).to_string();
    tool.does(&["put", &row, "c", "x"]);
    for (arguments, word) in [
        (&[][..], "Usage"),
        (&["get", &row], "COLUMN"),
        (&["get", &row, "100%"], "%25"),
        (&["get", &row, ""], "at least one byte"),
        (&["put", &row, "c"], "VALUE"),
        (&["put", &row, "c", "--file", &nowhere], &nowhere),
        (&["put", &row, "c", "--file", path(dir.path())], "directory"),
        (&["get", &row, "c", "-o", &nowhere], &nowhere),
        (&["get", &row, "c", "--node", "nobody"], "a1, a2, b1, b2"),
        (&["get", &row, "c", "--node", "m1"], "no node m1"),
        (&["delete", &row], "COLUMN"),
    ] {
        let said = tool.ends(2, arguments);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let elsewhere = Tool { config: dir.path().join("none.toml"), _scripted: None };
    assert!(elsewhere.ends(2, &["get", &row, "c"]).contains("none.toml"));
}

#[test]
fn refusals_end_with_three_and_say_what_was_executed() {
    let (cluster, row) = (Cluster::shared(), owner("refused"));
    let tool = Tool::of(&cluster);
    tool.does(&["put", &row, "word", "word"]);
    let no_number = tool.ends(3, &["add", &row, "word", "1"]);
    assert!(no_number.contains("BAD: ") && no_number.contains("not executed"), "{no_number}");
    let long = "x".repeat(cluster.config().store.cell_bytes as usize + 1);
    let too_big = tool.ends(3, &["cput", &row, "word", &long, "y"]);
    assert!(too_big.contains("TOOBIG: ") && too_big.contains("not executed"), "{too_big}");
    for (error, word, effect) in [
        (Error::TabletFull, "TABLETFULL", "was not executed"),
        (Error::NoSpace, "NOSPACE", "was not executed"),
        (Error::retry("soon"), "RETRY: ", "was not executed"),
        (Error::unknown("cut"), "UNKNOWN: ", "may have been executed"),
    ] {
        let tool = Tool::scripted(vec![Answer(Reply::Error(error)); 50]);
        let said = tool.ends(3, &["put", "alice", "c", "v"]);
        assert!(said.contains(word) && said.contains(effect), "{said}");
    }
}

#[test]
fn a_value_that_is_cut_off_does_not_look_whole() {
    let head = |len| Reply::Value { version: 7, len, total: 10 };
    let cut = || Sends(head(10), b"0123".to_vec());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("value");
    let tool = Tool::scripted(vec![cut()]);
    let said = tool.ends(3, &["get", "alice", "c", "-o", path(&file)]);
    assert!(!said.is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "neither the file nor its .part");
    let tool = Tool::scripted(vec![cut()]);
    let said = tool.run(&["get", "alice", "c", "--version"]);
    assert_eq!((said.code, &said.out[..]), (Some(3), &b"0123"[..]));
    assert!(!said.err.contains("version"), "{said:?}");
    let rest = Sends(head(6), b"456789".to_vec());
    let tool = Tool::scripted(vec![cut(), Close, rest]);
    tool.does(&["get", "alice", "c", "-o", path(&file)]);
    assert_eq!(fs::read(&file).unwrap(), b"0123456789", "another node has gone on");
    let tool = Tool::scripted(vec![Sends(head(10), b"0123456789".to_vec())]);
    tool.does(&["get", "alice", "c", "-o", "/dev/null"]);
}

#[test]
fn an_upload_that_ends_early_leaves_nothing_visible() {
    let (cluster, row) = (Cluster::shared(), owner("early"));
    let (tool, value) = (Tool::of(&cluster), noise(22, 400_000));
    for length in ["400001", "399999", "100"] {
        let said = tool.pipes(&["put", &row, "short", "-", "--length", length], &value);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.err.contains("nothing was written"), "{said:?}");
    }
    let mut killed = tool.start(&["put", &row, "killed", "-"], Stdio::piped());
    killed.stdin.as_mut().expect("a pipe").write_all(&value).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let said = said(tool.start(&["put", &row, "reset", "-"], reset_after(BIG_BYTES)));
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("nothing was written"), "{said:?}");
    for column in ["short", "killed", "reset"] {
        assert!(is_absent(&cluster, &row, column), "{column}");
    }
    let whole = tool.pipes(&["put", &row, "whole", "-", "--length", "400000"], &value);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert!(tool.does(&["get", &row, "whole"]) == value);
}

/// An input that gives bytes, and then fails.
fn reset_after(bytes: usize) -> OwnedFd {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    std::thread::spawn(move || {
        writer.write_all(&noise(23, bytes)).unwrap();
        socket2::SockRef::from(&writer).set_linger(Some(Duration::ZERO)).unwrap();
    });
    reader.into()
}

#[test]
fn lists_go_on_over_pages() {
    let (cluster, row) = (Cluster::shared(), owner("pages"));
    let (tool, client) = (Tool::of(&cluster), Client::new(cluster.config()).unwrap());
    let names: Vec<String> = (0..LIMIT_MAX + 100).map(|i| format!("c{i:05}")).collect();
    for some in names.chunks(BATCH_ITEMS_MAX) {
        let items = some.iter().map(|name| Op::put(row.as_str(), name.as_str(), "12345"));
        client.batch(&row, items.collect()).unwrap();
    }
    let listed = |options: &[&str]| {
        let lines = tool.lines(&[&["scan", &row], options].concat());
        lines.iter().map(|line| line.split(' ').nth(2).unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), names);
    let back: Vec<String> = names.iter().rev().cloned().collect();
    assert_eq!(listed(&["--reverse"]), back);
    assert_eq!(listed(&["--limit", "1050"]), names[..1050]);
    assert_eq!(listed(&["--limit", "0"]), [""; 0]);
    assert_eq!(listed(&["--after", "c00999", "--limit", "2"]), ["c01000", "c01001"]);
    assert_eq!(listed(&["--prefix", "c0000"]), names[..10]);
    let with_values = tool.lines(&["scan", &row, "--values", "--limit", "1"]).concat();
    assert!(with_values.ends_with(" 5 c00000 12345"), "{with_values}");
}

#[test]
fn names_of_any_bytes_are_typed_as_they_are_printed() {
    let (cluster, owner) = (Cluster::shared(), owner("names"));
    let tool = Tool::of(&cluster);
    let row = format!("{owner}/a b");
    let printed = ["%00%01%0A%1B[2J", "%FF%C2%9B", "100%25", "sp%20ace%3D", "ü"];
    for name in printed {
        tool.does(&["put", &row, name, name]);
        assert_eq!(tool.does(&["get", &row, name]), name.as_bytes());
    }
    tool.does(&["put", &row, "line\nend", "x\ty"]);
    let lines = tool.lines(&["scan", &row, "--values"]);
    let mut names: Vec<_> = lines.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    names.sort_unstable();
    let mut expected = [&printed[..], &["line%0Aend"]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(lines.iter().any(|line| line.ends_with(" line%0Aend x%09y")), "{lines:?}");
    let objects = tool.lines(&["scan", &row, "--values", "--json"]);
    let objects: Vec<serde_json::Value> =
        objects.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str, name: &str| objects.iter().find(|o| o[key] == name).expect("it is there");
    assert_eq!(of("column", "line\nend")["value"], "x\ty");
    assert_eq!(of("column", "sp ace=")["length"], 11);
    assert_eq!(of("column_base64", "/8Kb")["value"], "%FF%C2%9B");
}

#[test]
fn rows_are_those_of_a_node_or_of_all_groups() {
    let (cluster, owner) = (Cluster::shared(), owner("rows"));
    let tool = Tool::of(&cluster);
    // Owners of both groups.
    let rows: Vec<String> = (0..16).map(|i| format!("{owner}-{i:02}")).collect();
    rows.iter().for_each(|row| drop(tool.does(&["put", row, "c", "12345"])));
    let listed = |options: &[&str]| {
        let lines = tool.lines(&[&["rows", "--prefix", &owner], options].concat());
        let name = |line: &String| line.strip_prefix("1 5 ").expect("cells, bytes, name").into();
        let mut names: Vec<String> = lines.iter().map(name).collect();
        names.sort();
        names
    };
    eventually("all replicas have heard of them", || (listed(&[]) == rows).then_some(()));
    let (a, b) = (listed(&["--node", "a2"]), listed(&["--node", &cluster.address("b1")]));
    assert!(!a.is_empty() && !b.is_empty(), "{a:?} {b:?}");
    let mut both = [a, b].concat();
    both.sort();
    assert_eq!(both, rows);
    assert_eq!(listed(&["--node", "a1", "--limit", "1"]).len(), 1);
    let object = tool.lines(&["rows", "--prefix", &rows[3], "--json"]).concat();
    assert_eq!(object, format!("{{\"row\":\"{}\",\"cells\":1,\"bytes\":5}}", rows[3]));
}

#[test]
fn status_is_of_all_or_of_one() {
    let cluster = Cluster::shared();
    let tool = Tool::of(&cluster);
    let all = String::from_utf8(tool.does(&["status"])).unwrap();
    for name in ["m1", "a1", "a2", "b1", "b2"] {
        assert!(all.contains(&format!("{name} at {}:", cluster.address(name))), "{all}");
    }
    for name in ["m1", "b2"] {
        let one = String::from_utf8(tool.does(&["--node", name, "status"])).unwrap();
        let own = one.contains(&format!("{name}: "));
        assert!(own && !one.contains(" at 127."), "{one}");
    }
}

#[test]
fn a_node_that_is_down_is_replaced_by_another() {
    let cluster = Cluster::start_store(|_| {});
    let tool = Tool::of(&cluster);
    let value = noise(24, 50_000);
    let rows = ["alice", "bob", "carol", "dave"];
    for row in rows {
        assert_eq!(tool.pipes(&["put", row, "big", "-"], &value).code, Some(0));
    }
    cluster.kill("a1");
    for row in rows {
        assert!(tool.does(&["get", row, "big"]) == value, "{row}");
        tool.does(&["--timeout", "60", "put", row, "small", "new"]);
        assert_eq!(tool.does(&["--node", "a2", "get", row, "small"]), b"new");
    }
    assert_eq!(tool.lines(&["rows"]).len(), rows.len());
    let said = tool.ends(3, &["--node", "a1", "--timeout", "1", "get", "alice", "small"]);
    assert!(said.contains("RETRY: "), "{said}");
    let status = tool.run(&["status"]);
    assert_eq!(status.code, Some(3));
    assert!(status.err.contains("no answer from a1"), "{status:?}");
    assert!(String::from_utf8_lossy(&status.out).contains("a3 at "), "{status:?}");
}
