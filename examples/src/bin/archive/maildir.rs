//! A maildir: a file a mail, which is there whole or not at all (<https://cr.yp.to/proto/maildir.html>).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::task::spawn_blocking;

/// What is in `tmp` for longer than this was left there by a program that was killed.
const ABANDONED: Duration = Duration::from_secs(36 * 60 * 60);

/// A piece of mail is written once there is so much of it.
const BUFFER: usize = 64 * 1024;

/// The folders of a maildir.
const PARTS: [&str; 3] = ["tmp", "new", "cur"];

/// A maildir.
#[derive(Clone, Debug)]
pub(crate) struct Maildir(Arc<Folders>);

#[derive(Debug)]
struct Folders {
    tmp: PathBuf,
    new: PathBuf,
    /// The last part of each file's name.
    host: String,
}

impl Maildir {
    /// Opens a maildir, which is made if it is not there; only this user can read it then.
    ///
    /// The folder that it lies in must be there, and a folder that holds something else is no
    /// maildir: what was meant is another one, or one on a disk that is not mounted.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut folder = DirBuilder::new();
        folder.mode(0o700);
        match fs::read_dir(path) {
            Ok(entries) => check(path, entries)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => folder.create(path)?,
            Err(error) => return Err(error),
        }
        for part in PARTS {
            // Made if it is not there.
            folder.recursive(true).create(path.join(part))?;
        }
        let node = rustix::system::uname();
        let folders = Folders {
            tmp: path.join("tmp"),
            new: path.join("new"),
            host: host(&node.nodename().to_string_lossy()),
        };
        remove_abandoned(&folders.tmp)?;
        Ok(Self(Arc::new(folders)))
    }

    /// Begins a mail.
    pub(crate) async fn begin(&self) -> io::Result<Draft> {
        let folders = Arc::clone(&self.0);
        let name = unique(&folders.host);
        let path = folders.tmp.join(&name);
        let (file, guard) = spawn_blocking(move || {
            let mut options = OpenOptions::new();
            let file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            // Made here, so that the file goes also if nobody waits for it any more.
            io::Result::Ok((file, Guard(path)))
        })
        .await
        .map_err(io::Error::other)??;
        Ok(Draft {
            file: BufWriter::with_capacity(BUFFER, file.into()),
            guard,
            target: folders.new.join(name),
            folders,
            held_cr: false,
        })
    }
}

/// A mail that is being written. Dropped before it was kept, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Draft {
    file: BufWriter<tokio::fs::File>,
    guard: Guard,
    target: PathBuf,
    folders: Arc<Folders>,
    /// A CR was the last byte, and is not written yet.
    held_cr: bool,
}

/// Removes the file.
#[derive(Debug)]
struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing can be done about an error; what is left is removed a day and a half later.
        let _ = fs::remove_file(&self.0);
    }
}

impl Draft {
    /// Writes more of it. A line end is CRLF in SMTP, and LF in a maildir.
    pub(crate) async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            if std::mem::take(&mut self.held_cr) && !rest.starts_with(b"\n") {
                self.file.write_all(b"\r").await?;
            }
            let cr = rest.windows(2).position(|two| two == b"\r\n");
            let (line, after) = match (cr, rest) {
                (Some(cr), _) => (&rest[..cr], &rest[cr + 1..]),
                (None, [line @ .., b'\r']) => {
                    self.held_cr = true;
                    (line, &[][..])
                }
                (None, _) => (rest, &[][..]),
            };
            self.file.write_all(line).await?;
            rest = after;
        }
        Ok(())
    }

    /// Keeps it: when this is done the mail is in `new`, and on the disk.
    pub(crate) async fn keep(mut self) -> io::Result<PathBuf> {
        if self.held_cr {
            self.file.write_all(b"\r").await?;
        }
        self.file.flush().await?;
        let file = self.file.into_inner().into_std().await;
        let (guard, target, folders) = (self.guard, self.target, self.folders);
        spawn_blocking(move || {
            file.sync_all()?;
            drop(file);
            fs::rename(&guard.0, &target)?;
            // The name has to be on the disk as well.
            let named = File::open(&folders.new).and_then(|folder| folder.sync_all());
            match named {
                Ok(()) => Ok(target),
                Err(error) => {
                    let _ = fs::remove_file(&target);
                    Err(error)
                }
            }
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Whether a folder is a maildir, or can become one: with nothing in it, or not all of the parts.
fn check(path: &Path, entries: fs::ReadDir) -> io::Result<()> {
    if PARTS.iter().all(|part| path.join(part).is_dir()) {
        return Ok(());
    }
    for entry in entries {
        let name = entry?.file_name();
        if !PARTS.iter().any(|part| name == *part) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "this folder is no maildir, and other things are in it",
            ));
        }
    }
    Ok(())
}

/// A name that no other file here has: time, process, count and host.
fn unique(host: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{}.M{}P{}Q{count}.{host}",
        now.as_secs(),
        now.subsec_micros(),
        std::process::id()
    )
}

/// A host's name as it can stand in that of a file.
fn host(name: &str) -> String {
    name.replace('/', "\\057").replace(':', "\\072")
}

fn remove_abandoned(tmp: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tmp)? {
        let entry = entry?;
        let written = entry.metadata()?.modified()?;
        let age = written.elapsed().unwrap_or_default();
        if age > ABANDONED {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(dir: &Path, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test]
    async fn a_mail_is_there_when_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mail");
        let maildir = Maildir::open(&path).unwrap();
        let mut draft = maildir.begin().await.unwrap();
        draft.write(b"Subject: hi\n\n").await.unwrap();
        draft.write(b"one\r\ntwo\r").await.unwrap();
        assert_eq!(files(&path, "tmp").len(), 1);
        assert_eq!(files(&path, "new").len(), 0);
        draft.write(b"\nthree\r").await.unwrap();
        draft.write(b"\r\n\rend\r").await.unwrap();
        let kept = draft.keep().await.unwrap();
        assert_eq!(files(&path, "tmp").len(), 0);
        assert_eq!(files(&path, "new"), std::slice::from_ref(&kept));
        let text = fs::read_to_string(&kept).unwrap();
        assert_eq!(text, "Subject: hi\n\none\ntwo\nthree\r\n\rend\r");
        let mode = fs::metadata(&kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_mail_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(dir.path()).unwrap();
        let mut draft = maildir.begin().await.unwrap();
        draft.write(&vec![b'x'; 3 * BUFFER]).await.unwrap();
        drop(draft);
        assert_eq!(files(dir.path(), "tmp").len(), 0);
        assert_eq!(files(dir.path(), "new").len(), 0);
    }

    #[tokio::test]
    async fn a_mail_that_cannot_be_kept_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(dir.path()).unwrap();
        let draft = maildir.begin().await.unwrap();
        fs::remove_dir(dir.path().join("new")).unwrap();
        draft.keep().await.unwrap_err();
        assert_eq!(files(dir.path(), "tmp").len(), 0);
    }

    #[tokio::test]
    async fn no_two_names_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(dir.path()).unwrap();
        let mut names = std::collections::HashSet::new();
        for _ in 0..100 {
            names.insert(maildir.begin().await.unwrap().keep().await.unwrap());
        }
        assert_eq!(names.len(), 100);
        assert_eq!(host("a/b:c"), "a\\057b\\072c");
    }

    #[test]
    fn what_is_no_maildir_does_not_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mail");
        // The folder above is not there.
        Maildir::open(&path.join("deep")).unwrap_err();
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("tmp")).unwrap();
        fs::write(path.join("other"), "").unwrap();
        let error = Maildir::open(&path).unwrap_err();
        assert!(error.to_string().contains("no maildir"), "{error}");
        assert!(!path.join("new").exists());
        fs::remove_file(path.join("other")).unwrap();
        Maildir::open(&path).unwrap();
        // What else there is in a maildir is others'.
        fs::write(path.join("other"), "").unwrap();
        Maildir::open(&path).unwrap();
    }

    #[test]
    fn what_was_abandoned_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        Maildir::open(dir.path()).unwrap();
        for (name, age) in [("old", ABANDONED * 2), ("young", ABANDONED / 2)] {
            let file = File::create(dir.path().join("tmp").join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        Maildir::open(dir.path()).unwrap();
        assert_eq!(files(dir.path(), "tmp"), [dir.path().join("tmp/young")]);
    }
}
