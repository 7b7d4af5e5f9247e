//! Sendmail, unpacked from Debian's packages into a cache and run from there.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Config, Server, files_below, find_program, run, write};
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

fn cache() -> Result<PathBuf, String> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = var("MILTER_TESTS_CACHE")
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("milter-tests")))
        .or_else(|| Some(var("HOME")?.join(".cache/milter-tests")))
        .ok_or("no folder for the cache: set MILTER_TESTS_CACHE")?;
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    fs::canonicalize(&cache).map_err(|error| format!("{}: {error}", cache.display()))
}

fn install() -> Result<Installed, String> {
    find_program("m4", "m4")?;
    let cache = cache()?;
    let root = cache.join("sendmail");
    // Made aside and renamed when whole: another test process may be at it too.
    let scratch = tempfile::tempdir_in(&cache).map_err(|error| error.to_string())?;
    if !root.exists() {
        let new = unpack(scratch.path())?;
        if fs::rename(&new, &root).is_err() && !root.exists() {
            return Err(format!("cannot make {}", root.display()));
        }
    }
    let mut hasher = DefaultHasher::new();
    let source = include_str!("../../mta/sendmail_shim.c");
    source.hash(&mut hasher);
    let shim = cache.join(format!("sendmail_shim-{:016x}.so", hasher.finish()));
    if !shim.exists() {
        let (c, so) = (
            scratch.path().join("shim.c"),
            scratch.path().join("shim.so"),
        );
        write(&c, source)?;
        let mut cc = Command::new(find_program("cc", "gcc libc6-dev")?);
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&so).arg(&c);
        run(&mut cc, &scratch.path().join("cc.log"))?;
        fs::rename(&so, &shim).map_err(|error| format!("{}: {error}", shim.display()))?;
    }
    let installed = Installed { root, shim };
    let libraries = Command::new("ldd").arg(installed.program()).output();
    let libraries = libraries.map_err(|error| format!("ldd: {error}"))?.stdout;
    if String::from_utf8_lossy(&libraries).contains("not found") {
        return Err(format!(
            "Sendmail lacks libraries: apt-get install {LIBRARIES}"
        ));
    }
    Ok(installed)
}

/// Downloads the packages and unpacks them below `scratch`.
fn unpack(scratch: &Path) -> Result<PathBuf, String> {
    let apt = find_program("apt-get", "apt")?;
    let dpkg = find_program("dpkg", "dpkg")?;
    let log = scratch.join("log");
    let mut download = Command::new(apt);
    download
        .args(["-qq", "download", "sendmail-bin", "sendmail-cf"])
        .current_dir(scratch);
    run(&mut download, &log)
        .map_err(|error| format!("Sendmail's packages cannot be downloaded: {error}"))?;
    let root = scratch.join("root");
    for file in files_below(scratch)
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "deb"))
    {
        run(Command::new(&dpkg).arg("-x").arg(file).arg(&root), &log)?;
    }
    // Without the bit that makes it run as a group: LD_PRELOAD is not heeded with it.
    let program = root.join("usr/libexec/sendmail/sendmail");
    for path in [&program, &root] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(root)
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
