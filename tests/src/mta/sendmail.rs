//! Sendmail, unpacked from Debian's packages into a cache and run from there.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Config, Server, files_below, find_program, run, write};
use crate::debian;
use crate::process;
use crate::wait;

/// The daemon's name.
const DAEMON: &str = "sendmail";
/// What the packages' program needs that a small system lacks.
const LIBRARIES: &str = "libdb5.3 libldap-2.5-0 liblockfile1 libnsl2 libsasl2-2 libwrap0";

/// The unpacked packages and the library that is preloaded.
#[derive(Debug, Clone)]
struct Installed {
    root: PathBuf,
    shim: PathBuf,
}

impl Installed {
    fn program(&self) -> PathBuf {
        self.root.join("usr/libexec/sendmail/sendmail")
    }
}

pub(super) fn available() -> Result<(), String> {
    installed().map(|_| ())
}

fn installed() -> Result<Installed, String> {
    static INSTALLED: OnceLock<Result<Installed, String>> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()
}

fn install() -> Result<Installed, String> {
    find_program("m4", "m4")?;
    let root = debian::unpacked("sendmail", &["sendmail-bin", "sendmail-cf"])?;
    let installed = Installed {
        root,
        shim: debian::shim()?,
    };
    // Without the bit that makes it run as a group: LD_PRELOAD is not heeded with it.
    fs::set_permissions(installed.program(), fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", installed.program().display()))?;
    debian::has_libraries(&installed.program(), LIBRARIES)?;
    Ok(installed)
}

#[derive(Debug)]
pub(super) struct Sendmail {
    dir: PathBuf,
}

impl Sendmail {
    pub(super) fn start(dir: &Path, port: u16, sink: u16, config: &Config) -> Result<Self, String> {
        let installed = installed()?;
        let this = Self {
            dir: dir.to_owned(),
        };
        let queue = this.queue();
        fs::create_dir(&queue)
            .and_then(|()| fs::set_permissions(&queue, fs::Permissions::from_mode(0o700)))
            .map_err(|error| format!("{}: {error}", queue.display()))?;
        write(
            &dir.join("service.switch"),
            "aliases files\nhosts files\npasswd files\n",
        )?;
        write(&dir.join("log"), "")?;
        let mc = include_str!("../../mta/sendmail.mc")
            .replace("@ROOT@", &installed.root.to_string_lossy())
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@PORT@", &port.to_string())
            .replace("@SINK@", &sink.to_string())
            .replace("@MILTERS@", &milters(config))
            .replace("@EXTRA@", &config.extra.join("\n"));
        write(&dir.join("sendmail.mc"), mc)?;
        let m4 = Command::new(find_program("m4", "m4")?)
            .arg(dir.join("sendmail.mc"))
            .output();
        let m4 = m4.map_err(|error| format!("m4: {error}"))?;
        if !m4.status.success() {
            return Err(format!("m4: {}", String::from_utf8_lossy(&m4.stderr)));
        }
        write(&dir.join("sendmail.cf"), m4.stdout)?;
        let mut daemon = Command::new(installed.program());
        daemon
            .env("MTA_LOG", dir.join("log"))
            .env("LD_PRELOAD", &installed.shim)
            .arg("-C")
            .arg(dir.join("sendmail.cf"))
            .arg("-X")
            .arg(dir.join("traffic"))
            .args(["-bd", "-q5m"]);
        run(&mut daemon, &dir.join("start.log"))
            .map_err(|error| format!("{error}\n{}", this.log()))?;
        wait::until("Sendmail's pid file", wait::PATIENCE, || {
            process::read_pid(&this.pid_file())
        })?;
        Ok(this)
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("sendmail.pid")
    }

    fn queue(&self) -> PathBuf {
        self.dir.join("mqueue")
    }

    /// The queue's files, by what they are: `qf` a message's envelope and headers, `hf` the same
    /// in quarantine, `df` its body, others while it is worked on.
    fn queued(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let name = |path: &PathBuf| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let mut files = files_below(&self.queue());
        files.retain(|path| name(path).is_some_and(|name| wanted(&name)));
        files
    }
}

/// The `INPUT_MAIL_FILTER` lines.
fn milters(config: &Config) -> String {
    let mut lines = String::new();
    let mut names = Vec::new();
    let wait = config.timeout.as_secs();
    // E bounds the whole end of a message, however much progress is reported.
    let end = wait + 30;
    for (n, address) in config.milters.iter().enumerate() {
        let address = address.for_sendmail();
        let _ = writeln!(
            lines,
            "INPUT_MAIL_FILTER(`f{n}', `S={address}, F=T, T=C:{wait}s;S:{wait}s;R:{wait}s;E:{end}s')dnl"
        );
        names.push(format!("f{n}"));
    }
    let _ = write!(
        lines,
        "define(`confINPUT_MAIL_FILTERS', `{}')dnl",
        names.join(", ")
    );
    lines
}

impl Server for Sendmail {
    fn is_idle(&self) -> bool {
        self.queued(|name| !name.starts_with("hf") && !name.starts_with("df"))
            .is_empty()
    }

    fn held(&self) -> Vec<String> {
        let print = |control: &PathBuf| {
            let name = control
                .file_name()?
                .to_string_lossy()
                .replacen("hf", "df", 1);
            let mut text = fs::read(control).ok()?;
            text.extend(fs::read(control.with_file_name(name)).unwrap_or_default());
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        self.queued(|name| name.starts_with("hf"))
            .iter()
            .filter_map(print)
            .collect()
    }

    fn purge(&self) {
        for file in self.queued(|_| true) {
            let _ = fs::remove_file(file);
        }
    }

    fn submit(&self, _: &str, _: &[&str], _: &[u8]) -> Result<(), String> {
        Err("Sendmail's milters do not see mail from the command line".to_owned())
    }

    fn log(&self) -> String {
        let read = |name| fs::read(self.dir.join(name)).unwrap_or_default();
        let log = [read("start.log"), read("log")].concat();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Sendmail {
    fn drop(&mut self) {
        process::stop_daemon(&self.pid_file(), DAEMON);
    }
}
