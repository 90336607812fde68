//! What was done to files, in order, and what a crash leaves of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What was done to a file.
#[derive(Clone, Debug)]
pub enum Step {
    Create(PathBuf),
    Write(PathBuf, u64, Box<[u8]>),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir,
}

thread_local! {
    static STEPS: RefCell<Option<Vec<Step>>> = const { RefCell::new(None) };
}

/// Notes a step of this thread, if somebody looks on.
pub fn note(step: impl FnOnce() -> Step) {
    STEPS.with_borrow_mut(|steps| {
        if let Some(steps) = steps {
            steps.push(step());
        }
    });
}

/// Runs something on this thread, and answers with all its steps.
pub fn watch<T>(run: impl FnOnce() -> T) -> (T, Vec<Step>) {
    STEPS.set(Some(Vec::new()));
    let done = run();
    (done, STEPS.take().expect("it was just set"))
}

/// A directory on a disk that forgets what was not synced.
#[derive(Clone, Default)]
pub struct Disk {
    files: Vec<Content>,
    names: Names,
    durable_names: Names,
    /// The names that changed last and not durably: what they are now.
    last: Vec<(OsString, Option<usize>)>,
}

/// Which file has a name.
type Names = BTreeMap<OsString, usize>;

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// Which changes of names that were not synced a crash leaves.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    None,
    /// The last one without those before it.
    Last,
    All,
}

/// Which of the steps that were not synced a crash leaves: changes of names, and whether those of contents.
pub const CRASHES: [(Left, bool); 6] = [
    (Left::None, false),
    (Left::None, true),
    (Left::Last, false),
    (Left::Last, true),
    (Left::All, false),
    (Left::All, true),
];

impl Disk {
    /// The files of a directory, all durable.
    pub fn of(dir: &Path) -> Disk {
        let mut disk = Disk::default();
        for entry in std::fs::read_dir(dir).expect("listed") {
            let path = entry.expect("listed").path();
            let now = std::fs::read(&path).expect("read");
            disk.files.push(Content { durable: now.clone(), now });
            disk.names.insert(name(&path), disk.files.len() - 1);
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    /// Takes a step.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Create(path) => {
                self.files.push(Content::default());
                self.rename([(name(path), Some(self.files.len() - 1))]);
            }
            Step::Write(path, offset, bytes) => {
                let (content, offset) = (&mut self.file(path).now, *offset as usize);
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Step::Sync(path) => {
                let content = self.file(path);
                content.durable = content.now.clone();
            }
            Step::Rename(from, to) => {
                let file = self.names[&name(from)];
                self.rename([(name(from), None), (name(to), Some(file))]);
            }
            Step::Remove(path) => self.rename([(name(path), None)]),
            Step::SyncDir => {
                self.durable_names = self.names.clone();
                self.last.clear();
            }
        }
    }

    fn rename<const N: usize>(&mut self, changes: [(OsString, Option<usize>); N]) {
        self.last = changes.to_vec();
        apply(&self.last, &mut self.names);
    }

    /// What a crash leaves now: names, and contents, as they are or as they were synced.
    pub fn crash(&self, (left, all_contents): (Left, bool)) -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a temporary directory");
        let mut names = self.durable_names.clone();
        match left {
            Left::None => {}
            Left::Last => apply(&self.last, &mut names),
            Left::All => names = self.names.clone(),
        }
        for (name, file) in &names {
            let content = &self.files[*file];
            let bytes = if all_contents { &content.now } else { &content.durable };
            std::fs::write(dir.path().join(name), bytes).expect("written");
        }
        dir
    }

    fn file(&mut self, path: &Path) -> &mut Content {
        &mut self.files[self.names[&name(path)]]
    }
}

fn apply(changes: &[(OsString, Option<usize>)], names: &mut Names) {
    for (name, file) in changes {
        match file {
            Some(file) => drop(names.insert(name.clone(), *file)),
            None => drop(names.remove(name)),
        }
    }
}

fn name(path: &Path) -> OsString {
    path.file_name().expect("a file of the directory").into()
}
