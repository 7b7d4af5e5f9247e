//! What each of them needs, and how it is started.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{DOMAIN, EICAR, Helper, Milter, SELECTOR, Spamd, start_daemon};
use crate::address::Address;
use crate::debian;
use crate::mta::{find_program, run, write};

/// The packages of libraries that each lacks on a small system; `.ci/run` installs them.
const OPENDKIM: &str = "libopendkim11 librbl1 libvbr2 libopendbx1 libmemcached11 liblua5.3-0 \
                        libunbound8 libdb5.3 libldap-2.5-0 libbsd0 libmilter1.0.1";
const OPENDMARC: &str = "libopendmarc2 libbsd0 libmilter1.0.1";
const CLAMAV: &str = "libclamav12 libcurl4 libncurses6 libsystemd0 libmilter1.0.1";
const SPAMASS: &str = "libmilter1.0.1 libstdc++6";
const RSPAMD: &str = "libglib2.0-0 libhyperscan5 libicu72 libluajit-5.1-2 libpcre2-8-0 libsodium23 \
                      libsqlite3-0 libunwind8";

/// A program, and the folder that its package is unpacked in.
#[derive(Debug, Clone)]
pub(super) struct Program {
    root: PathBuf,
    path: PathBuf,
}

/// The program of a milter, unpacked or compiled.
pub(super) fn program(milter: Milter) -> Result<Program, String> {
    let daemon = |name, packages: &[&str], path, libraries| {
        let root = debian::unpacked(name, packages)?;
        let path = root.join(path);
        // What it has of its own is not looked for.
        if !libraries_in_root(milter) {
            debian::has_libraries(&path, libraries)?;
        }
        Ok(Program { root, path })
    };
    match milter {
        Milter::Signer | Milter::Verifier => {
            find_program("openssl", "openssl")?;
            daemon("opendkim", &["opendkim"], "usr/sbin/opendkim", OPENDKIM)
        }
        Milter::Dmarc => daemon("opendmarc", &["opendmarc"], "usr/sbin/opendmarc", OPENDMARC),
        Milter::Clamav => {
            let packages = ["clamav-milter", "clamav-daemon"];
            daemon("clamav", &packages, "usr/sbin/clamav-milter", CLAMAV)
        }
        Milter::Spamass => {
            find_program("spamc", "spamc")?;
            let packages = ["spamass-milter"];
            daemon("spamass", &packages, "usr/sbin/spamass-milter", SPAMASS)
        }
        Milter::Rspamd => daemon("rspamd", &["rspamd"], "usr/bin/rspamd", RSPAMD),
        Milter::Orders | Milter::OrdersStreamed => {
            let source = include_str!("../../others/orders.c");
            let libraries = ["-lmilter", "-lpthread"];
            let path = debian::compiled("orders", "bin", source, &[], &libraries)
                .map_err(|error| format!("{error}: apt-get install libmilter-dev"))?;
            let root = PathBuf::new();
            Ok(Program { root, path })
        }
        Milter::OrdersPerl => {
            let path = find_program("perl", "perl")?;
            let root = debian::unpacked("pmilter", &["libsendmail-pmilter-perl"])?;
            Ok(Program { root, path })
        }
    }
}

fn libraries_in_root(milter: Milter) -> bool {
    milter == Milter::Rspamd
}

/// What starts it, with its files in `dir`; what it is connected to is running then.
pub(super) fn command(
    milter: Milter,
    program: &Program,
    dir: &Path,
    address: &Address,
    helpers: &mut Vec<Helper>,
) -> Result<Command, String> {
    let mut command = Command::new(&program.path);
    match milter {
        Milter::Signer | Milter::Verifier => {
            preload(&mut command)?;
            write(&dir.join("key"), &keys()?.private)?;
            write(&dir.join("keys"), public_keys())?;
            write(&dir.join("conf"), opendkim(milter, dir, address))?;
            command.arg("-f").arg("-x").arg(dir.join("conf"));
        }
        Milter::Dmarc => {
            preload(&mut command)?;
            write(
                &dir.join("dns"),
                format!("_dmarc.{DOMAIN} v=DMARC1; p=reject\n"),
            )?;
            write(&dir.join("none"), "")?;
            write(&dir.join("conf"), opendmarc(dir, address))?;
            command.arg("-f").arg("-c").arg(dir.join("conf"));
        }
        Milter::Clamav => {
            helpers.push(clamd(program, dir)?);
            write(&dir.join("conf"), clamav(dir, address))?;
            command.arg("-c").arg(dir.join("conf"));
        }
        Milter::Spamass => {
            preload(&mut command)?;
            let spamd = Spamd::start().map_err(|error| error.to_string())?;
            let port = spamd.port().to_string();
            helpers.push(Helper::Spamd { _spamd: spamd });
            command.args(["-r", "15", "-p", &address.to_string()]);
            command.args(["--", "-d", "127.0.0.1", "-p", &port]);
        }
        Milter::Rspamd => {
            write(&dir.join("tld"), "com\nnet\norg\n")?;
            let conf = include_str!("../../others/rspamd.conf")
                .replace("@DIR@", &dir.to_string_lossy())
                .replace("@ADDRESS@", &address.for_postfix().replace("inet:", ""));
            write(&dir.join("conf"), conf)?;
            command.args(["-f", "-i", "-c"]).arg(dir.join("conf"));
            command.env("LD_LIBRARY_PATH", program.root.join("usr/lib/rspamd"));
            let share = program.root.join("usr/share/rspamd");
            for (name, folder) in [
                ("SHAREDIR", share.clone()),
                ("RULESDIR", share.join("rules")),
                ("PLUGINSDIR", share.join("plugins")),
                ("LUALIBDIR", share.join("lualib")),
                ("DBDIR", dir.to_owned()),
                ("RUNDIR", dir.to_owned()),
                ("LOGDIR", dir.to_owned()),
                ("CONFDIR", dir.to_owned()),
                ("LOCAL_CONFDIR", dir.to_owned()),
            ] {
                command.arg(format!("--var={name}={}", folder.display()));
            }
        }
        Milter::Orders => {
            command.arg(address.to_string());
        }
        Milter::OrdersStreamed => {
            command.arg(address.to_string());
            command.args(["nr", "leading-space"]);
        }
        Milter::OrdersPerl => {
            write(
                &dir.join("orders.pl"),
                include_str!("../../others/orders.pl"),
            )?;
            command.env("PERL5LIB", program.root.join("usr/share/perl5"));
            command.arg(dir.join("orders.pl")).arg(address.to_string());
        }
    }
    Ok(command)
}

/// What it logs once it is of use, if that is later than when it listens.
pub(super) fn ready(milter: Milter) -> &'static str {
    match milter {
        // Before it has found its daemon, every mail fails.
        Milter::Clamav => "Probe for slot 1 returned: success",
        _ => "",
    }
}

/// Its log in a file, and the same host everywhere.
fn preload(command: &mut Command) -> Result<(), String> {
    command.env("LD_PRELOAD", debian::shim()?);
    Ok(())
}

fn opendkim(milter: Milter, dir: &Path, address: &Address) -> String {
    let dir = dir.display();
    let what = match milter {
        Milter::Signer => format!(
            "Mode s\nDomain {DOMAIN}\nSelector {SELECTOR}\nKeyFile {dir}/key\n\
             RequireSafeKeys no\nCanonicalization simple/simple\n\
             InternalHosts 0.0.0.0/0\nSignHeaders *,+X-Signed\n"
        ),
        _ => format!("Mode v\nTestPublicKeys {dir}/keys\nAlwaysAddARHeader yes\n"),
    };
    format!(
        "Background no\nSyslog yes\nSyslogSuccess yes\nLogWhy yes\nNameservers 127.0.0.1\n\
         AuthservID {host}\nPidFile {dir}/pid\nSocket {address}\n{what}",
        host = super::HOST
    )
}

fn opendmarc(dir: &Path, address: &Address) -> String {
    let dir = dir.display();
    format!(
        "Background false\nSyslog true\nMilterDebug 0\nPidFile {dir}/pid\nSocket {address}\n\
         RejectFailures true\nTestDNSData {dir}/dns\nAuthservID {host}\nTrustedAuthservIDs {host}\n\
         IgnoreHosts {dir}/none\nSPFSelfValidate false\n",
        host = super::HOST
    )
}

fn clamav(dir: &Path, address: &Address) -> String {
    let dir = dir.display();
    format!(
        "Foreground yes\nLogFile {dir}/log\nClamdSocket unix:{dir}/clamd\nMilterSocket {address}\n\
         TemporaryDirectory {dir}\nLogVerbose yes\n\
         OnInfected Reject\nRejectMsg Infected by %v\nAddHeader Replace\n"
    )
}

/// The daemon that scans, with a database of one signature.
fn clamd(program: &Program, dir: &Path) -> Result<Helper, String> {
    let (db, dir) = (dir.join("db"), dir.display());
    fs::create_dir(&db).map_err(|error| format!("{}: {error}", db.display()))?;
    let mut signature = "Test.Eicar:0:*:".to_owned();
    for byte in EICAR.concat().bytes() {
        let _ = write!(signature, "{byte:02x}");
    }
    write(&db.join("test.ndb"), signature + "\n")?;
    let conf = db.with_file_name("clamd.conf");
    write(
        &conf,
        format!(
            "Foreground yes\nDatabaseDirectory {dir}/db\nLocalSocket {dir}/clamd\n\
             TemporaryDirectory {dir}\nMaxThreads 2\n"
        ),
    )?;
    let path = program.path.with_file_name("clamd");
    debian::has_libraries(&path, CLAMAV)?;
    start_daemon(
        Command::new(path).arg("-c").arg(&conf),
        &db.with_file_name("clamd.log"),
        &Address::Unix(db.with_file_name("clamd")),
    )
}

/// A pair of keys, made once.
struct Keys {
    private: Vec<u8>,
    public: String,
}

fn keys() -> Result<&'static Keys, String> {
    static KEYS: OnceLock<Result<Keys, String>> = OnceLock::new();
    KEYS.get_or_init(make_keys).as_ref().map_err(Clone::clone)
}

fn make_keys() -> Result<Keys, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (key, public) = (dir.path().join("key"), dir.path().join("public"));
    let openssl = || find_program("openssl", "openssl").map(Command::new);
    let log = dir.path().join("log");
    run(
        openssl()?.args(["genrsa", "-out"]).arg(&key).arg("2048"),
        &log,
    )?;
    let mut command = openssl()?;
    command.args(["rsa", "-pubout", "-in"]).arg(&key);
    run(command.arg("-out").arg(&public), &log)?;
    let read = |path: &Path| fs::read(path).map_err(|error| error.to_string());
    let pem = String::from_utf8_lossy(&read(&public)?).into_owned();
    Ok(Keys {
        private: read(&key)?,
        public: pem.lines().filter(|line| !line.starts_with('-')).collect(),
    })
}

/// The key's TXT record, as a line of opendkim's `TestPublicKeys`.
pub(super) fn public_keys() -> String {
    let public = keys().map_or("", |keys| keys.public.as_str());
    format!("{SELECTOR}._domainkey.{DOMAIN} v=DKIM1; k=rsa; p={public}\n")
}
