//! The file of a unix socket: made, given away, and removed.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::UnixStream;

/// The file of a socket that this process made; removed with the last listener on it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inode = inode(path)?;
        Ok(Self {
            path: path.to_owned(),
            inode,
        })
    }
}

impl SocketFile {
    /// Gives the socket to a group.
    pub(super) fn give_to(&self, group: u32) -> io::Result<()> {
        std::os::unix::fs::lchown(&self.path, None, Some(group)).map_err(|error| {
            let text = format!("the socket cannot be given to the group {group}: {error}");
            io::Error::new(error.kind(), text)
        })
    }

    /// Sets the socket's permissions.
    pub(super) fn allow(&self, mode: u32) -> io::Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have put its own socket there meanwhile.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removes what an earlier process left: only a socket, and only if nobody listens.
pub(super) async fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the file exists and is no socket",
            ));
        }
        Err(_) => return Ok(()),
    }
    // It does not wait: one whose queue is full is no stale one.
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// Keeps other processes from making sockets in the same folder in the same way: between its
/// making and its listening a socket looks like one that was left behind.
///
/// None if that is not possible, or somebody else holds it for long.
pub(super) async fn lock_folder(path: &Path) -> Option<Flock<File>> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut folder = File::open(folder.unwrap_or(Path::new("."))).ok()?;
    for _ in 0..100 {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((kept, Errno::EWOULDBLOCK)) => folder = kept,
            Err(_) => return None,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}
