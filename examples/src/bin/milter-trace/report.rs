//! Showing and recording the news, in one thread: no line is torn, and nothing overtakes.

use std::io::{self, Write};

use milter_examples::tell;
use milter_tower::BoxError;
use milter_tower::testing::recording::Recorder;
use tokio::sync::mpsc::Receiver;

use crate::news::News;
use crate::transcript::Transcript;

/// Where the news go.
pub(crate) struct Report<W> {
    out: Option<W>,
    transcript: Transcript,
    recorder: Option<Recorder<Box<dyn Write + Send>>>,
    failure: Option<io::Error>,
}

impl<W: Write> Report<W> {
    pub(crate) fn new(
        out: W,
        transcript: Transcript,
        recorder: Option<Recorder<Box<dyn Write + Send>>>,
    ) -> Self {
        Self {
            out: Some(out),
            transcript,
            recorder,
            failure: None,
        }
    }

    /// Takes the news until there are none any more. The error is that of the recording.
    pub(crate) fn run(mut self, mut incoming: Receiver<News>) -> Result<(), BoxError> {
        while let Some(news) = incoming.blocking_recv() {
            self.take(&news);
            // What a crash would lose is what just happened.
            if incoming.is_empty() {
                self.record(Recorder::flush);
            }
        }
        self.record(Recorder::flush);
        match self.failure {
            Some(error) => Err(format!("the recording is not complete: {error}").into()),
            None => Ok(()),
        }
    }

    fn take(&mut self, news: &News) {
        if let Some(entry) = news.to_entry() {
            self.record(|recorder| recorder.write(&entry));
        }
        let line = self.transcript.line(news);
        let Some(out) = &mut self.out else {
            return;
        };
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written {
            tell(format_args!(
                "the transcript ends, passing on does not: {error}"
            ));
            self.out = None;
        }
    }

    /// The first failure ends the recording, and nothing else.
    fn record(
        &mut self,
        write: impl FnOnce(&mut Recorder<Box<dyn Write + Send>>) -> io::Result<()>,
    ) {
        let Some(Err(error)) = self.recorder.as_mut().map(write) else {
            return;
        };
        tell(format_args!(
            "the recording ends, passing on does not: {error}"
        ));
        self.recorder = None;
        self.failure = Some(error);
    }
}
