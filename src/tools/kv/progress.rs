//! A bar on standard error that shows how far a value is.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Read};

/// Smaller values need no bar.
const BAR_FROM_BYTES: u64 = 1 << 20;

const WITH_LENGTH: &str =
    "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left {wide_msg}";
const WITHOUT_LENGTH: &str = "{spinner} {bytes} {binary_bytes_per_sec} {elapsed} {wide_msg}";

/// A reader, and a bar once more than 1 MiB has been read. The bar goes when this is dropped.
pub(super) struct Watched<R> {
    from: R,
    total: Option<u64>,
    seen: u64,
    /// Whether there is a place for a bar.
    is_shown: bool,
    bar: Option<ProgressBar>,
}

impl<R> Watched<R> {
    /// Watches a reader that gives `total` bytes, if that is known. `elsewhere`: the terminal is not where the bytes
    /// themselves go.
    pub(super) fn new(from: R, total: Option<u64>, elsewhere: bool) -> Watched<R> {
        let is_shown = elsewhere && io::stderr().is_terminal();
        Watched { from, total, seen: 0, is_shown, bar: None }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.seen += n as u64;
        match &self.bar {
            Some(bar) => bar.set_position(self.seen),
            None if self.is_shown && self.seen > BAR_FROM_BYTES => self.bar = Some(bar(self.total)),
            None => {}
        }
        Ok(n)
    }
}

impl<R> Drop for Watched<R> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let template = if total.is_some() { WITH_LENGTH } else { WITHOUT_LENGTH };
    let style = ProgressStyle::with_template(template).expect("the template is right");
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style)
}
