//! Where lines go.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Takes lines. Functions of `&str` do.
///
/// It is called on the task of the connection: one that may block holds up others of its thread.
/// For files there are writers that do not, such as that of `tracing-appender`.
pub trait WriteLine: Send + Sync {
    /// Takes a line, without its end.
    fn write_line(&self, line: &str);

    /// Whether lines are to begin with the time. By default yes.
    fn needs_time(&self) -> bool {
        true
    }

    /// Whether lines are wanted at the moment. By default yes.
    fn is_enabled(&self) -> bool {
        true
    }
}

impl<F: Fn(&str) + Send + Sync> WriteLine for F {
    fn write_line(&self, line: &str) {
        self(line);
    }
}

/// Makes each line a `tracing` event at the level INFO with the target `milter_log`. The time is the
/// subscriber's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl WriteLine for Tracing {
    fn write_line(&self, line: &str) {
        tracing::info!(target: "milter_log", "{line}");
    }

    fn needs_time(&self) -> bool {
        false
    }

    fn is_enabled(&self) -> bool {
        tracing::enabled!(target: "milter_log", tracing::Level::INFO)
    }
}

/// Writes each line to a writer, at once and whole.
///
/// A line that cannot be written is lost, with a warning of `tracing`.
pub struct Writer<W>(Mutex<W>);

impl<W> Writer<W> {
    /// Lines go to this writer.
    pub const fn new(writer: W) -> Self {
        Self(Mutex::new(writer))
    }
}

impl<W: Write + Send> WriteLine for Writer<W> {
    fn write_line(&self, line: &str) {
        let line = [line, "\n"].concat();
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writer
            .write_all(line.as_bytes())
            .and_then(|()| writer.flush());
        if let Err(error) = written {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a log line is lost"
            );
        }
    }
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// A time as RFC 3339 has it, in UTC: `2026-11-26T14:48:07.123Z`.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// The date so many days after 1970-01-01. Years are counted from March, so that the leap day is
/// their last.
fn date(days: u64) -> (u64, u64, u64) {
    // Since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    use tracing::Level;

    use super::{Tracing, WriteLine, Writer, timestamp};
    use crate::classify::heard::Heard;

    /// Keeps what is written, or fails.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>, bool);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 {
                return Err(io::Error::other("the disk is full"));
            }
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_go_to_writers_and_to_subscribers() {
        let (written, heard) = (Kept::default(), Heard::to(Level::INFO));
        assert!(Tracing.is_enabled() && !Tracing.needs_time());
        Tracing.write_line("event=message");
        let writer = Writer::new(written.clone());
        writer.write_line("one");
        writer.write_line("two");
        // It harms nobody.
        Writer::new(Kept(Arc::default(), true)).write_line("three");
        assert_eq!(written.text(), "one\ntwo\n");
        let lines = heard.lines();
        assert_eq!(lines[0], " INFO milter_log: event=message");
        assert!(
            lines[1].ends_with("a log line is lost error=the disk is full"),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 2, "{lines:?}");
    }

    #[test]
    fn times_are_shown_in_utc() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.007Z"),
            (1_764_168_487, "2025-11-26T14:48:07.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let time = Duration::from_secs(seconds) + Duration::from_millis(7);
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + time), shown);
        }
    }
}
