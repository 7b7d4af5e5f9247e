//! Postfix with a configuration, a queue and a log of its own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::{Config, Server, files_below, find_program, run, write};
use crate::address::Address;
use crate::process;

/// The master process's name.
const MASTER: &str = "master";

pub(super) fn available() -> Result<(), String> {
    find_program("postfix", "postfix")?;
    if Path::new("/usr/lib/postfix/sbin/postlogd").exists() {
        return Ok(());
    }
    Err("postlogd is missing (Postfix 3.4 or later): apt-get install postfix".to_owned())
}

#[derive(Debug)]
pub(super) struct Postfix {
    dir: PathBuf,
}

impl Postfix {
    pub(super) fn start(dir: &Path, port: u16, sink: u16, config: &Config) -> Result<Self, String> {
        let this = Self {
            dir: dir.to_owned(),
        };
        let etc = dir.join("etc");
        for folder in [&etc, &dir.join("spool"), &dir.join("data")] {
            fs::create_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        // Only what Postfix owns may it write to as the user postfix.
        chown_to_postfix(&dir.join("data"))?;
        write(&this.log_file(), "")?;
        let milters: Vec<String> = config.milters.iter().map(Address::for_postfix).collect();
        let milters = milters.join(", ");
        let main = include_str!("../../mta/main.cf")
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@SINK@", &sink.to_string())
            .replace("@MILTERS@", &milters)
            .replace("@NON_SMTP@", if config.non_smtp { &milters } else { "" })
            .replace("@TIMEOUT@", &config.timeout.as_secs().to_string())
            .replace("@EXTRA@", &config.extra.join("\n"));
        write_settled(&etc.join("main.cf"), &main)?;
        let master = include_str!("../../mta/master.cf").replace("@PORT@", &port.to_string());
        write_settled(&etc.join("master.cf"), &master)?;
        run(
            this.command("postfix")?.arg("start"),
            &dir.join("start.log"),
        )
        .map_err(|error| format!("{error}\n{}", this.log()))?;
        Ok(this)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// A command of Postfix's on this instance.
    fn command(&self, name: &str) -> Result<Command, String> {
        let mut command = Command::new(find_program(name, "postfix")?);
        command
            .arg(if name == "sendmail" { "-C" } else { "-c" })
            .arg(self.dir.join("etc"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    fn queue(&self, name: &str) -> Vec<PathBuf> {
        files_below(&self.dir.join("spool").join(name))
    }
}

impl Server for Postfix {
    fn is_idle(&self) -> bool {
        // In the way that a message takes, so that none slips past: it is in the next queue before
        // it leaves the last.
        ["maildrop", "incoming", "active", "deferred"]
            .iter()
            .all(|name| self.queue(name).is_empty())
    }

    fn held(&self) -> Vec<String> {
        let print = |file| {
            let output = self
                .command("postcat")
                .ok()?
                .arg("-ehb")
                .arg(file)
                .output()
                .ok()?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        self.queue("hold").iter().filter_map(print).collect()
    }

    fn purge(&self) {
        if let Ok(mut command) = self.command("postsuper") {
            let _ = run(command.args(["-d", "ALL"]), &self.dir.join("purge.log"));
        }
    }

    fn submit(&self, sender: &str, recipients: &[&str], content: &[u8]) -> Result<(), String> {
        let mut command = self.command("sendmail")?;
        command.args(["-i", "-f", sender, "--"]).args(recipients);
        let child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        // Dropped at once: the end of the message.
        let written = child.stdin.take().map(|mut input| input.write_all(content));
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        if output.status.success() && matches!(written, Some(Ok(()))) {
            return Ok(());
        }
        Err(format!(
            "sendmail: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // What "postfix stop" does, less its whole seconds of sleep.
        process::stop_daemon(&self.dir.join("spool/pid/master.pid"), MASTER);
    }
}

/// Postfix waits for seconds when a configuration file is quite new: it might be half written.
fn write_settled(path: &Path, content: &str) -> Result<(), String> {
    write(path, content)?;
    let past = SystemTime::now() - Duration::from_secs(60);
    let file = fs::File::options().append(true).open(path);
    file.and_then(|file| file.set_modified(past))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn chown_to_postfix(path: &Path) -> Result<(), String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let user = users.lines().find_map(|row| row.strip_prefix("postfix:"));
    let id = user.and_then(|row| row.split(':').nth(1)?.parse().ok());
    let id = id.ok_or("there is no user postfix")?;
    std::os::unix::fs::chown(path, Some(id), Some(0))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|error| format!("{}: {error}", path.display()))
}
