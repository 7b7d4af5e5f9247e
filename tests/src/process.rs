//! Child processes that never outlive their test, and the project's own programs as such.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::address::Address;
use crate::wait::{self, PATIENCE};

/// How long a process may take to end after it was asked to.
const END: Duration = Duration::from_secs(8);

/// A child process that is stopped, by its own id, when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    name: String,
}

impl Guard {
    /// Starts the command.
    ///
    /// # Errors
    ///
    /// What the system says, with the program's name.
    pub fn spawn(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        match command.spawn() {
            Ok(child) => Ok(Self { child, name }),
            Err(error) => Err(format!("cannot start {name}: {error}")),
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    ///
    /// When it did not end in time; it was killed then.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let what = format!("the end of {}", self.name);
        wait::until(&what, END, || self.ended()).inspect_err(|_| {
            self.kill();
        })
    }

    /// Ends it without asking.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error}");
        }
    }
}

/// Whether a process with this id runs, is no zombie and has this name.
pub fn is_running(pid: u32, name: &str) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let field = |key: &str| {
        let row = status.lines().find(|row| row.starts_with(key));
        row.and_then(|row| row.split_ascii_whitespace().nth(1))
    };
    field("Name:") == Some(name) && !matches!(field("State:"), None | Some("Z" | "X"))
}

/// Stops a daemon that a pid file names, if it still is the process of that name.
pub fn stop_daemon(pid_file: &Path, name: &str) {
    let Some(pid) = read_pid(pid_file) else {
        return;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        if !is_running(pid, name) {
            return;
        }
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
        let _ = wait::until("its end", END, || (!is_running(pid, name)).then_some(()));
    }
}

/// The id in the first line of a pid file.
pub fn read_pid(pid_file: &Path) -> Option<u32> {
    let text = fs::read_to_string(pid_file).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Where the program `name` of package `milter-examples` is, built if need be (once a process,
/// in the profile of the running test). The variable `MILTER_TESTS_NAME`, for example
/// `MILTER_TESTS_CONTROL`, names another program to take instead.
///
/// # Panics
///
/// When it does not build.
pub fn program(name: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let key = format!("MILTER_TESTS_{}", name.to_uppercase().replace('-', "_"));
    if let Some(path) = std::env::var_os(key) {
        return path.into();
    }
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let path = build(name);
    built.insert(name.to_owned(), path.clone());
    path
}

fn build(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    // TARGET/PROFILE/deps/test-HASH, or TARGET/PROFILE/program
    let mut folder = test.parent().expect("a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("a profile's folder");
    }
    let profile = match folder.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "-p",
            "milter-examples",
            "--bin",
            name,
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(folder.parent().expect("a target folder"))
        .stdin(Stdio::null())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the program {name} does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder.join(name)
}

/// A filter that listens.
#[derive(Debug)]
pub struct Filter {
    guard: Guard,
    address: Address,
    output: PathBuf,
    _dir: TempDir,
}

impl Filter {
    /// Starts `program(name) --listen ADDRESS ARGS...` and waits until it listens. A unix socket is
    /// opened to everybody, as the mail server may run as somebody else.
    ///
    /// # Panics
    ///
    /// When it does not start, with what it said.
    pub fn start<A: AsRef<OsStr>>(name: &str, address: &Address, args: &[A]) -> Self {
        Self::start_command(
            Command::new(program(name))
                .args(["--listen", &address.to_string()])
                .args(args),
            address,
        )
    }

    /// Starts any command that is known to listen there.
    ///
    /// # Panics
    ///
    /// When it does not start, with what it said.
    pub fn start_command(command: &mut Command, address: &Address) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let output = dir.path().join("output");
        let file = File::create(&output).expect("a file for the output");
        let both = file
            .try_clone()
            .map(|copy| (copy, file))
            .expect("a second handle");
        command.stdin(Stdio::null()).stdout(both.0).stderr(both.1);
        let guard = Guard::spawn(command).unwrap_or_else(|error| panic!("{error}"));
        let mut filter = Self {
            guard,
            address: address.clone(),
            output,
            _dir: dir,
        };
        if let Err(error) = filter.wait_until_it_listens() {
            panic!("{error}\n{}", filter.output());
        }
        filter
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let (guard, address) = (&mut self.guard, &self.address);
        wait::until(
            &format!("a listener at {address}"),
            PATIENCE,
            || match guard.ended() {
                Some(status) => Some(Err(format!("{} ended: {status}", guard.name))),
                None => address.has_listener().then_some(Ok(())),
            },
        )??;
        if let Address::Unix(path) = address {
            let open = fs::Permissions::from_mode(0o666);
            fs::set_permissions(path, open).map_err(|e: io::Error| e.to_string())?;
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.guard.id()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.guard.ended()
    }

    /// What it has written to its standard output and error so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        self.guard.stop()
    }

    /// Ends it without asking.
    pub fn kill(&mut self) {
        self.guard.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_ends_its_process() {
        let guard = Guard::spawn(Command::new("sleep").arg("1000")).unwrap();
        let pid = guard.id();
        // Between fork and exec the child still has this program's name.
        wait::until("sleep", PATIENCE, || is_running(pid, "sleep").then_some(())).unwrap();
        drop(guard);
        assert!(!is_running(pid, "sleep"));
    }

    #[test]
    fn a_daemon_is_stopped_only_by_its_own_name() {
        let mut guard = Guard::spawn(Command::new("sleep").arg("1000")).unwrap();
        let pid = guard.id();
        wait::until("sleep", PATIENCE, || is_running(pid, "sleep").then_some(())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        fs::write(&file, format!("  {pid}\n")).unwrap();
        stop_daemon(&file, "somebody");
        assert!(guard.ended().is_none());
        stop_daemon(&file, "sleep");
        assert!(!is_running(pid, "sleep"));
    }

    #[test]
    fn a_filter_that_ends_at_once_is_reported_with_its_words() {
        let result = std::panic::catch_unwind(|| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo cannot bind >&2; exit 3"]);
            Filter::start_command(&mut command, &Address::free_tcp());
        });
        let text = *result.unwrap_err().downcast::<String>().unwrap();
        assert!(
            text.contains("exit status: 3") && text.contains("cannot bind"),
            "{text}"
        );
    }
}
