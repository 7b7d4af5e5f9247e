//! A line on a terminal that says how far it is.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use milter_examples::text::{float, time};

/// The bar, in characters.
const WIDTH: u64 = 30;

#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    began: Instant,
    is_drawn: bool,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            began: Instant::now(),
            is_drawn: false,
        }
    }

    pub(super) fn draw(&mut self, done: u64, failed: u64) {
        self.is_drawn = true;
        let line = line(done, failed, self.total, self.began.elapsed());
        // A terminal that is gone is no reason to stop measuring.
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    pub(super) fn clear(&self) {
        if self.is_drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, failed: u64, total: u64, took: Duration) -> String {
    let share = |of: u64| {
        let part = u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1));
        usize::try_from(part).unwrap_or_default()
    };
    let (full, percent) = (share(WIDTH), share(100));
    let empty = usize::try_from(WIDTH).unwrap_or_default() - full;
    let mut line = format!(
        "[{}{}] {percent:>3} %  {done}/{total}",
        "#".repeat(full),
        "-".repeat(empty)
    );
    if failed > 0 {
        let _ = write!(line, ", {failed} failed");
    }
    if done > 0 {
        let rest = total.saturating_sub(done);
        let left = took.mul_f64(float(rest) / float(done));
        let _ = write!(line, ", {} left", time(left));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let took = Duration::from_secs(2);
        assert_eq!(
            line(0, 0, 10, took),
            "[------------------------------]   0 %  0/10"
        );
        assert_eq!(
            line(5, 2, 10, took),
            "[###############---------------]  50 %  5/10, 2 failed, 2.00 s left"
        );
        assert_eq!(
            line(10, 0, 10, took),
            "[##############################] 100 %  10/10, 0 µs left"
        );
    }
}
