//! Programs from Debian's packages that are not installed, as that would start daemons or remove
//! the system's: they are unpacked into a cache and run from there.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::mta::{files_below, find_program, run, write};

/// One at a time in this process; of several processes the first wins.
static UNPACKING: Mutex<()> = Mutex::new(());

/// The folder that these packages are unpacked in, after a download if it is not there yet.
///
/// # Errors
///
/// Why it cannot be made.
pub fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let cache = cache()?;
    let root = cache.join(name);
    let _one = UNPACKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if root.exists() {
        return Ok(root);
    }
    // Made aside and renamed when whole: another test process may be at it too.
    let scratch = tempfile::tempdir_in(&cache).map_err(|error| error.to_string())?;
    let new = unpack(scratch.path(), packages)?;
    if fs::rename(&new, &root).is_err() && !root.exists() {
        return Err(format!("cannot make {}", root.display()));
    }
    Ok(root)
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

/// Downloads the packages and unpacks them below `scratch`.
fn unpack(scratch: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let apt = find_program("apt-get", "apt")?;
    let dpkg = find_program("dpkg", "dpkg")?;
    let log = scratch.join("log");
    let mut download = Command::new(apt);
    download
        .args(["-qq", "download"])
        .args(packages)
        .current_dir(scratch);
    run(&mut download, &log)
        .map_err(|error| format!("{} cannot be downloaded: {error}", packages.join(", ")))?;
    let root = scratch.join("root");
    for file in files_below(scratch)
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "deb"))
    {
        run(Command::new(&dpkg).arg("-x").arg(file).arg(&root), &log)?;
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(root)
}

/// The library to preload into a daemon, for its log (in the file that `MTA_LOG` names) and its
/// host's name (`mta.test`).
///
/// # Errors
///
/// Why it cannot be compiled.
pub fn shim() -> Result<PathBuf, String> {
    compiled(
        "shim",
        "so",
        include_str!("../mta/shim.c"),
        &["-shared", "-fPIC"],
        &[],
    )
}

/// What `cc` makes of a source, kept in the cache.
///
/// # Errors
///
/// What the compiler says.
pub fn compiled(
    name: &str,
    extension: &str,
    source: &str,
    options: &[&str],
    libraries: &[&str],
) -> Result<PathBuf, String> {
    let cache = cache()?;
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let made = cache.join(format!("{name}-{:016x}.{extension}", hasher.finish()));
    if made.exists() {
        return Ok(made);
    }
    let scratch = tempfile::tempdir_in(&cache).map_err(|error| error.to_string())?;
    let (c, out) = (scratch.path().join("source.c"), scratch.path().join("out"));
    write(&c, source)?;
    let mut cc = Command::new(find_program("cc", "gcc libc6-dev")?);
    cc.args(["-O2", "-o"]).arg(&out).args(options);
    cc.arg(&c).args(libraries);
    run(&mut cc, &scratch.path().join("cc.log"))?;
    fs::rename(&out, &made).map_err(|error| format!("{}: {error}", made.display()))?;
    Ok(made)
}

/// Whether all libraries of a program are there; else which packages have them.
///
/// # Errors
///
/// Says what to install.
pub fn has_libraries(program: &Path, packages: &str) -> Result<(), String> {
    let libraries = Command::new("ldd").arg(program).output();
    let libraries = libraries.map_err(|error| format!("ldd: {error}"))?.stdout;
    if String::from_utf8_lossy(&libraries).contains("not found") {
        let name = program.file_name().unwrap_or_default().display();
        return Err(format!(
            "{name} lacks libraries: apt-get install {packages}"
        ));
    }
    Ok(())
}
