//! A disk of one's own: an ext4 in a file, mounted by a loop device, whose power can be cut.

use super::{command, eventually, run};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Makes the disk, says so, waits until nobody holds its input any more, and removes it.
const KEEPER: &str = r#"
trap '' INT TERM HUP
cd "$1" || exit
mkdir mount && truncate -s "$2" image && mkfs.ext4 -q -F image && mount -o "$3" image mount && echo ready && cat
umount mount 2>/dev/null || umount -l mount 2>/dev/null
rm -rf --one-file-system "$1"
"#;

/// Nothing reaches the disk by itself for ten minutes: what was not synced is lost, as far as ext4 allows.
const OPTIONS: &str = "loop,commit=600";

/// The ioctl EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: from now on nothing is written, not even the
/// journal, and every call fails.
const SHUTDOWN: &str = r#"open(D, "<", $ARGV[0]) or die "$!"; $f = pack("L", 2); ioctl(D, 0x8004587d, $f) or die "$!""#;

/// A mounted disk. It goes when this is dropped, and also when the test process ends in any other way.
pub struct Disk {
    keeper: Child,
    dir: PathBuf,
}

impl Disk {
    /// A disk of so many MiB; why there can be none on this machine.
    pub fn new(mib: u64) -> Result<Disk, String> {
        command("perl").ok_or("there is no perl")?;
        let dir = tempfile::tempdir().expect("a temporary directory").keep();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&dir).arg(format!("{mib}M")).arg(OPTIONS);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().expect("there is a shell");
        let mut line = String::new();
        let said = keeper.stdout.as_mut().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("the shell says something or ends");
        if line != "ready\n" {
            let mut why = String::new();
            let _ = keeper.stderr.take().expect("a pipe").read_to_string(&mut why);
            let _ = keeper.wait();
            return Err(format!("no ext4 on a loop device: {}", why.trim().replace('\n', "; ")));
        }
        Ok(Disk { keeper, dir })
    }

    /// A directory on it, for the data of a process.
    pub fn data(&self) -> PathBuf {
        self.mount().join("data")
    }

    /// Makes that directory anew, durably.
    pub fn clear(&self) {
        let _ = fs::remove_dir_all(self.data());
        fs::create_dir(self.data()).expect("the disk can be written");
        File::open(self.mount()).and_then(|dir| dir.sync_all()).expect("the disk can be synced");
    }

    /// Cuts the power: what was not synced is gone, and the disk fails all that is asked of it.
    pub fn cut_power(&self) {
        run(Command::new("perl").args(["-e", SHUTDOWN]).arg(self.mount())).expect("the power goes");
    }

    /// Brings the power back, once nobody uses the disk any more: its journal is replayed.
    pub fn restore_power(&self) {
        eventually("the disk is not in use", || run(Command::new("umount").arg(self.mount())).ok());
        let mut mount = Command::new("mount");
        mount.args(["-o", OPTIONS]).arg(self.dir.join("image")).arg(self.mount());
        run(&mut mount).expect("the disk can be mounted again");
    }

    /// Takes all of its free space but so many MiB.
    pub fn fill(&self, all_but_mib: u64) {
        let file = File::create(self.ballast()).expect("the disk can be written");
        let free = rustix::fs::statvfs(self.mount()).expect("it is there");
        let bytes = (free.f_bavail * free.f_frsize).saturating_sub(all_but_mib << 20);
        let mode = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, mode, 0, bytes).expect("as much is free");
    }

    /// Takes all of its free space, to the last block, those too that are kept for the system.
    pub fn fill_up(&self) {
        self.fill(0);
        let mut file = File::options().append(true).open(self.ballast()).expect("it was just made");
        let full = loop {
            if let Err(full) = file.write_all(&[7; 1024]) {
                break full;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// Gives the space back that [`Disk::fill`] took.
    pub fn relieve(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.mount().join("ballast")
    }

    fn mount(&self) -> PathBuf {
        self.dir.join("mount")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.keeper.stdin = None;
        let _ = self.keeper.wait();
    }
}

/// Puts a link to a disk where a process looks for its data.
pub fn link(disk: &Disk, data_dir: &Path) {
    disk.clear();
    std::os::unix::fs::symlink(disk.data(), data_dir).expect("there is no data yet");
}
