//! The servers that are compared, and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use milter_tests::address::Address;
use milter_tests::process;
use serde::{Deserialize, Serialize};

/// What a filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Answers every event.
    Noop,
    /// The same, and adds a header.
    Addheader,
    /// Answers the end of the message alone.
    Nr,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Addheader => "addheader",
            Self::Nr => "nr",
        }
    }

    /// The actions that the filter has to ask for: `SMFIF_ADDHDRS` or none.
    pub(crate) fn actions(self) -> u32 {
        u32::from(self == Self::Addheader)
    }
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Server {
    /// See [`crate::floor`].
    Floor,
    /// `bench-filter --threads 1`.
    OneThread,
    /// `bench-filter` on Tokio's default runtime.
    Runtime,
    /// `libmilter.c`.
    Libmilter,
}

impl Server {
    /// All of them, the floor first.
    pub(crate) const ALL: [Self; 4] =
        [Self::Floor, Self::OneThread, Self::Runtime, Self::Libmilter];

    /// What it is called in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::OneThread => "milter-tower, one thread",
            Self::Runtime => "milter-tower, default runtime",
            Self::Libmilter => "libmilter",
        }
    }
}

/// The programs.
#[derive(Debug)]
pub(crate) struct Programs {
    floor: PathBuf,
    ours: PathBuf,
    libmilter: Option<PathBuf>,
}

impl Programs {
    /// Builds what has to be built, the filter on libmilter into the folder.
    pub(crate) fn build(folder: &Path, with_libmilter: bool) -> Result<Self, String> {
        let libmilter = with_libmilter.then(|| compile(folder)).transpose()?;
        Ok(Self {
            floor: std::env::current_exe().map_err(|error| error.to_string())?,
            ours: process::program("bench-filter"),
            libmilter,
        })
    }

    /// Which servers there are.
    pub(crate) fn servers(&self) -> Vec<Server> {
        let mut all = Server::ALL.to_vec();
        all.retain(|server| *server != Server::Libmilter || self.libmilter.is_some());
        all
    }

    /// What starts that server.
    pub(crate) fn command(&self, server: Server, address: &Address, mode: Mode) -> Command {
        let address = address.to_string();
        let (program, args): (&Path, &[&str]) = match server {
            Server::Floor => (&self.floor, &["floor", &address, mode.name()]),
            Server::Libmilter => {
                let program = self.libmilter.as_ref().expect("it was asked for");
                (program, &[&address, mode.name()])
            }
            Server::Runtime => (&self.ours, &["--listen", &address, "--mode", mode.name()]),
            Server::OneThread => (
                &self.ours,
                &[
                    "--threads",
                    "1",
                    "--listen",
                    &address,
                    "--mode",
                    mode.name(),
                ],
            ),
        };
        let mut command = Command::new(program);
        command.args(args);
        command
    }

    /// The version of libmilter, as it says itself.
    pub(crate) fn libmilter_version(&self) -> Option<String> {
        let output = Command::new(self.libmilter.as_ref()?)
            .arg("--version")
            .output();
        Some(
            String::from_utf8_lossy(&output.ok()?.stdout)
                .trim()
                .to_owned(),
        )
    }
}

fn compile(folder: &Path) -> Result<PathBuf, String> {
    let program = folder.join("libmilter");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/libmilter.c");
    let output = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .args([source, "-lmilter", "-lpthread"])
        .output();
    let help = "install a C compiler and libmilter (Debian: apt-get install gcc libc6-dev \
                libmilter-dev), or go without it: --without-libmilter";
    match output {
        Ok(output) if output.status.success() => Ok(program),
        Ok(output) => Err(format!(
            "{source} does not compile:\n{}{help}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("cannot start cc: {error}; {help}")),
    }
}
