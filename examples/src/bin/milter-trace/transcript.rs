//! The news as lines.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::BytesMut;
use milter_core::{Command, FilterCodec, MAX_PAYLOAD, MtaCodec, Reply};
use milter_tower::testing::recording::{Said, Side};
use tokio_util::codec::Decoder;

use crate::news::{News, What};
use crate::say;
use crate::style::{Escaped, Kind, Style};

/// Makes a line of each piece of news.
pub(crate) struct Transcript {
    style: Style,
    max_bytes: usize,
    open: HashMap<u64, Open>,
}

/// A connection.
struct Open {
    mta: FilterCodec,
    milter: MtaCodec,
    /// When the mail server said something last that asks for an answer.
    asked: Option<Duration>,
    /// Which sides are out of step.
    broken: Vec<Side>,
}

impl Open {
    fn new() -> Self {
        let (mut mta, mut milter) = (FilterCodec::new(), MtaCodec::new());
        mta.set_max_read(MAX_PAYLOAD);
        milter.set_max_read(MAX_PAYLOAD);
        Self {
            mta,
            milter,
            asked: None,
            broken: Vec::new(),
        }
    }
}

impl Transcript {
    pub(crate) fn new(style: Style, max_bytes: usize) -> Self {
        Self {
            style,
            max_bytes,
            open: HashMap::new(),
        }
    }

    /// The line, with its end.
    pub(crate) fn line(&mut self, news: &News) -> String {
        let (mark, kind, text) = match &news.what {
            What::Opened(peer) => {
                let text = format!("connection from {}", Escaped(peer.to_string().as_bytes()));
                ("==", Kind::Connection, text)
            }
            What::Closed => {
                self.open.remove(&news.connection);
                ("==", Kind::Connection, "closed".to_owned())
            }
            What::Trouble(what) => ("!!", Kind::Trouble, Escaped(what.as_bytes()).to_string()),
            What::Said(side, said) => {
                let mark = match side {
                    Side::Mta => "->",
                    Side::Milter => "<-",
                };
                let (kind, text) = self.said(news.connection, news.time, *side, said);
                (mark, kind, text)
            }
        };
        let mut line = String::new();
        let time = format!("{:>9.3}", news.time.as_secs_f64());
        self.style.put(&mut line, Kind::Quiet, &time);
        let _ = write!(line, " #{} {mark} ", news.connection);
        self.style.put(&mut line, kind, &text);
        line.push('\n');
        line
    }

    fn said(&mut self, number: u64, time: Duration, side: Side, said: &Said) -> (Kind, String) {
        let max_bytes = self.max_bytes;
        let open = self.open.entry(number).or_insert_with(Open::new);
        match said {
            Said::End => return (Kind::Quiet, "(end)".to_owned()),
            // What looks like a frame there is none.
            Said::Broken(_) if open.broken.contains(&side) => {
                return (Kind::Trouble, strange(said, max_bytes, "out of step"));
            }
            Said::Broken(_) => open.broken.push(side),
            _ => {}
        }
        let mut bytes = BytesMut::from(said.wire());
        let read = match side {
            Side::Mta => open.mta.decode(&mut bytes).map(|command| {
                let command = command?;
                if !matches!(command, Command::Macros(_)) {
                    open.asked = Some(time);
                }
                Some((Kind::Plain, say::command(&command, max_bytes)))
            }),
            Side::Milter => open.milter.decode(&mut bytes).map(|reply| {
                let reply = reply?;
                let (kind, mut text) = say::reply(&reply, max_bytes);
                let is_timed = reply.is_final() || reply == Reply::Progress;
                let took = open.asked.and_then(|asked| time.checked_sub(asked));
                if let Some(took) = took.filter(|_| is_timed) {
                    let _ = write!(text, " ({})", short(took));
                }
                Some((kind, text))
            }),
        };
        match read {
            Ok(Some(said)) => said,
            Ok(None) => (Kind::Trouble, strange(said, max_bytes, "cut off")),
            Err(why) => (Kind::Trouble, strange(said, max_bytes, &why.to_string())),
        }
    }
}

/// What cannot be read, as it is, and why.
fn strange(said: &Said, max_bytes: usize, why: &str) -> String {
    // They are all that there is to go by.
    let max_bytes = max_bytes.max(256);
    let shown = match said {
        Said::Frame { code, payload } => {
            let name = format!("?? frame '{}'", Escaped(&[*code]));
            say::bytes(&name, payload, max_bytes)
        }
        other => say::bytes("?? no frame,", &other.wire(), max_bytes),
    };
    format!("{shown} ({})", Escaped(why.as_bytes()))
}

/// A time in the unit that suits it.
fn short(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.2} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
