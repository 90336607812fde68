//! The house rules, read off the source: which module may import which, and what must not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 600;

/// The layers of DESIGN: a module imports lower ones only (and `error`).
const LAYERS: [&[&str]; 10] = [
    &["net", "config"],
    &["protocol", "http", "metrics"],
    &["storage", "replication", "master (pure)"],
    &["backend", "master", "client"],
    &["quota"],
    &["mail", "drive", "account"],
    &["smtp"],
    &["frontend", "console", "balancer"],
    &["tools"],
    &["main", "lib"],
];

/// The part of the master that knows no socket.
const MASTER_PURE: [&str; 7] = [
    "membership.rs",
    "tablets.rs",
    "handover.rs",
    "election.rs",
    "probation.rs",
    "layout.rs",
    "record.rs",
];

/// The frame of a letter: HTML that `mail::html` made harmless, in a sandbox with a policy of its own.
const LETTER: &str = "html/mail/letter.html";

/// What a module must not name, though it is in the standard library or in a lower layer.
const ABSENT: [(&str, &[&str]); 14] = [
    ("storage", &["std::net", "crate::net"]),
    ("replication", &["std::net", "std::fs", "std::time", "std::thread", "crate::net", "HashMap"]),
    ("master (pure)", &["std::net", "std::fs", "std::time", "std::thread", "HashMap"]),
    ("quota", REACHES_DATA_THROUGH_CLIENT),
    ("mail", REACHES_DATA_THROUGH_CLIENT),
    ("drive", REACHES_DATA_THROUGH_CLIENT),
    ("account", REACHES_DATA_THROUGH_CLIENT),
    ("smtp", REACHES_DATA_THROUGH_CLIENT),
    ("frontend", REACHES_DATA_THROUGH_CLIENT),
    ("console", REACHES_DATA_THROUGH_CLIENT),
    ("balancer", REACHES_DATA_THROUGH_CLIENT),
    ("http", &["crate::protocol"]),
    ("client", &["crate::backend", "crate::storage"]),
    ("backend", &["crate::http"]),
];

const REACHES_DATA_THROUGH_CLIENT: &[&str] =
    &["crate::backend", "crate::storage", "crate::replication", "crate::master"];

/// Only `net` accepts and connects; and what measures the machine below it.
const BELOW_NET: &str = "src/tools/bench/limits.rs";
const SOCKETS: [&str; 4] = ["TcpListener::bind", "TcpStream::connect", "UdpSocket", "UnixStream"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory whose names end so, as paths from the top, in order.
fn files(below: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root().join(below)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {below}");
    found
}

/// The program's own files without their tests.
fn sources() -> BTreeMap<String, String> {
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let own = files("src", ".rs").into_iter().filter(|(path, _)| !is_test(path));
    own.map(|(path, text)| (path, without_tests(&text))).collect()
}

/// What stands before the test module, without comments.
fn without_tests(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].to_string()
}

fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The module of a file: `src/net/auth.rs` is of `net`.
fn module(path: &str) -> String {
    let rest = path.strip_prefix("src/").unwrap();
    let first = rest.split('/').next().unwrap().trim_end_matches(".rs");
    let file = Path::new(path).file_name().unwrap().to_string_lossy();
    match first == "master" && MASTER_PURE.contains(&file.as_ref()) {
        true => "master (pure)".into(),
        false => first.into(),
    }
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&module));
    found.unwrap_or_else(|| panic!("{module} is in no layer"))
}

/// Modules that a file names after `crate::` (in the binary, after the library's name).
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "penncloud::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(first_names(list)),
                None => found.extend(first_names(rest).into_iter().take(1)),
            }
        }
    }
    found
}

/// The first word of each item of a list, up to the bracket that closes it.
fn first_names(list: &str) -> Vec<String> {
    let (mut names, mut name, mut depth, mut done) = (Vec::new(), String::new(), 0, false);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ';' => break,
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                done = false;
            }
            c if depth == 0 && !done && (c.is_alphanumeric() || c == '_') => name.push(c),
            c if c.is_whitespace() && name.is_empty() => {}
            _ => done = true,
        }
    }
    names.push(name);
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// All faults at once: they are mended together.
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn imports_go_down_only() {
    let all: BTreeSet<&str> = LAYERS.iter().flat_map(|layer| layer.iter().copied()).collect();
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let own = module(&path);
        for name in imports(&code(&text)).iter().filter(|name| all.contains(name.as_str())) {
            let itself = own.split(' ').next() == Some(name);
            if !itself && layer(name) >= layer(&own) {
                faults.push(format!("{path}: {own} must not import {name}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn what_must_be_absent_is_absent() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let (own, code) = (module(&path), code(&text));
        let absent =
            ABSENT.iter().filter(|(module, _)| *module == own).flat_map(|(_, names)| *names);
        for name in absent.filter(|name| code.contains(**name)) {
            faults.push(format!("{path}: {own} must not name {name}"));
        }
        if own != "net" && path != BELOW_NET {
            for name in SOCKETS.iter().filter(|name| code.contains(**name)) {
                faults.push(format!("{path}: only net may name {name}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn files_are_of_a_size_to_read() {
    let long = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(_, lines)| *lines > FILE_LINES_MAX);
    none(&long.map(|(path, lines)| format!("{path} has {lines} lines")).collect::<Vec<_>>());
}

#[test]
fn every_module_begins_with_what_it_is() {
    let bare = files("src", ".rs").into_iter().chain(files("tests", ".rs"));
    let bare = bare.filter(|(_, text)| !text.starts_with("//!"));
    none(&bare.map(|(path, _)| format!("{path} has no first sentence")).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone_or_unsaid() {
    let marks =
        ["TO".to_string() + "DO", "FIX".to_string() + "ME", "X".repeat(3), "dbg".to_string() + "!"];
    let all = files("src", ".rs").into_iter().chain(files("tests", ".rs"));
    let all =
        all.chain(files("html", ".html")).chain(files("html", ".css")).chain(files("html", ".js"));
    let mut faults = Vec::new();
    for (path, text) in all {
        for mark in marks.iter().filter(|mark| text.contains(mark.as_str())) {
            faults.push(format!("{path} holds {mark}"));
        }
    }
    none(&faults);
}

#[test]
fn no_failure_is_unwrapped_without_a_reason() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        for (i, line) in text.lines().enumerate() {
            let bare = [".unwrap()", "todo!(", "unimplemented!(", "panic!(\"\")"];
            let comment = line.trim_start().starts_with("//");
            if !comment && bare.iter().any(|word| line.contains(word)) {
                faults.push(format!("{path}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn no_path_of_somebodys_machine_is_in_the_source() {
    let all =
        files("src", ".rs").into_iter().chain(files("html", "")).chain(files("conf", ".toml"));
    let top = ["run.sh", "Cargo.toml", ".ci/run"];
    let top =
        top.map(|name| (name.to_string(), std::fs::read_to_string(root().join(name)).unwrap()));
    let paths = ["/home/", "/root/", "/work/", "/tmp/", "/usr/local/"];
    let mut faults = Vec::new();
    for (path, text) in all.chain(top) {
        for found in paths.iter().filter(|found| without_tests(&text).contains(**found)) {
            faults.push(format!("{path} names {found}"));
        }
    }
    none(&faults);
}

#[test]
fn pages_escape_everything_and_load_nothing_from_elsewhere() {
    let mut faults = Vec::new();
    let pages = files("html", ".html").into_iter().filter(|(path, _)| path != LETTER);
    for (path, text) in pages {
        let text = text.to_lowercase();
        let inline = text
            .split("<script")
            .skip(1)
            .any(|tag| !tag.split('>').next().unwrap().contains("src="));
        let checks = [
            (text.contains("|safe") || text.contains("| safe"), "unescaped text"),
            (text.contains("style=\"") || text.contains("<style"), "a style in the page"),
            (inline, "a script in the page"),
            (
                text.contains(" onclick=") || text.contains("javascript:"),
                "a script in an attribute",
            ),
            (text.contains("src=\"http") || text.contains("src=\"//"), "something from elsewhere"),
            (text.contains("href=\"http") || text.contains("@import"), "a link to elsewhere"),
        ];
        for (_, what) in checks.iter().filter(|(bad, _)| *bad) {
            faults.push(format!("{path} has {what}"));
        }
    }
    none(&faults);
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::net::{self, bind};\nuse crate::{http, mail::{Address, Letter}, config};\nlet x = crate::client::Client;";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["client", "config", "http", "mail", "net"]);
}
