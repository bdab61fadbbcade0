//! The control socket in the file system: one daemon at a time, and the right mode before anyone can connect.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::geteuid;

use super::peer::group_id;
use super::protocol::{CODE_IO, CODE_NOT_PERMITTED, CODE_UNAVAILABLE};

/// Name of the socket in the runtime directory.
pub const SOCKET_NAME: &str = "portwatch.sock";
const LOCK_NAME: &str = "portwatch.lock";

/// A bound, listening control socket. Dropping it removes it from the file system.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    /// Group whose members may read, if the system has it.
    pub(super) group: Option<u32>,
    pub(super) file: SocketFile,
    /// Locked as long as this daemon lives.
    pub(super) lock: File,
}

/// The socket's name in the file system; dropping it takes the name away.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon serves this runtime directory.
    #[error("portwatch is already running{} and serves {}: stop it first, or use another --runtime-dir",
        .pid.map_or_else(String::new, |pid| format!(" (pid {pid})")), .path.display())]
    AlreadyRunning {
        /// Its process id, when it could be told.
        pid: Option<u32>,
        /// The socket or lock file.
        path: PathBuf,
    },
    /// Others could replace files in the directory.
    #[error("the runtime directory {} {why}: it must belong to root and be writable only by its owner (chmod 0755)", .path.display())]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl BindError {
    /// The exit code (sysexits).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyRunning { .. } => CODE_UNAVAILABLE,
            Self::UnsafeDirectory { .. } => CODE_NOT_PERMITTED,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                CODE_NOT_PERMITTED
            }
            Self::Io { .. } => CODE_IO,
        }
    }
}

impl ControlSocket {
    /// Makes `runtime_dir` (0755) if need be and the socket in it: 0660, group `group` when the system
    /// has one of that name. A socket that a killed daemon left is replaced.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(runtime_dir: &Path, group: &str) -> Result<Self, BindError> {
        prepare_directory(runtime_dir)?;
        let path = runtime_dir.join(SOCKET_NAME);
        let lock = take_lock(&runtime_dir.join(LOCK_NAME))?;
        // The lock alone would do if nobody ever deleted the lock file of a live daemon.
        refuse_if_answered(&path)?;
        let group = group_id(group);
        let listener = listen(&path, group)?;
        let inode = fs::symlink_metadata(&path)
            .map_err(io_error("look at", &path))?
            .ino();
        Ok(Self {
            listener,
            group,
            file: SocketFile { path, inode },
            lock,
        })
    }

    /// Where clients find it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not one that somebody else put in its place.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn prepare_directory(path: &Path) -> Result<(), BindError> {
    match DirBuilder::new().mode(0o755).create(path) {
        // The umask may have taken bits away.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755))
            .map_err(io_error("set the mode of", path))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error("make the runtime directory", path)(error)),
    }
    let there = fs::metadata(path).map_err(io_error("look at", path))?;
    let why = if !there.is_dir() {
        "is not a directory"
    } else if there.uid() != 0 && there.uid() != geteuid().as_raw() {
        "belongs to another user"
    } else if there.mode() & 0o002 != 0 {
        "is writable by everyone"
    } else {
        return Ok(());
    };
    Err(BindError::UnsafeDirectory {
        path: path.to_owned(),
        why,
    })
}

/// Takes the lock and leaves our pid in it. Mode 0600, because whoever can open a file can lock it.
fn take_lock(path: &Path) -> Result<File, BindError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(io_error("open the lock", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&mut file).take(16).read_to_string(&mut text);
            return Err(BindError::AlreadyRunning {
                pid: text.trim().parse().ok(),
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write to the lock", path))?;
    Ok(file)
}

/// A listening socket of another purpose, with the mode and group of the control socket. One that nobody answers on is
/// replaced.
///
/// # Errors
/// Why not.
pub(super) fn bind_at(path: &Path, group: &str) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::other("it is not a socket"));
        }
        Ok(_) if answered(path)?.is_some() => {
            return Err(io::Error::other("somebody listens there"));
        }
        _ => {}
    }
    let listener = listen(path, group_id(group)).map_err(io::Error::other)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let path = path.to_owned();
    Ok((listener, SocketFile { path, inode }))
}

/// Tries the socket as a client would; without waiting, for a daemon that hangs is there too.
fn answered(path: &Path) -> io::Result<Option<OwnedFd>> {
    let socket = stream_socket()?;
    match net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(Some(socket)),
        // Absent, or a socket without a listener.
        Err(_) => Ok(None),
    }
}

fn refuse_if_answered(path: &Path) -> Result<(), BindError> {
    let Some(socket) = answered(path).map_err(io_error("try", path))? else {
        return Ok(());
    };
    Err(BindError::AlreadyRunning {
        pid: sockopt::socket_peercred(&socket)
            .ok()
            .and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok()),
        path: path.to_owned(),
    })
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Replaces what a killed daemon left, binds, sets owner and mode, and only then listens: until then
/// nobody can connect, so nobody finds the socket with a wrong mode.
fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, BindError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", path)(error));
        }
        _ => {}
    }
    let bound = || -> io::Result<UnixListener> {
        let socket = stream_socket()?;
        net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        if let Some(group) = group {
            chown(path, None, Some(group))?;
        }
        fs::set_permissions(path, Permissions::from_mode(0o660))?;
        net::listen(&socket, 128)?;
        Ok(UnixListener::from(socket))
    };
    bound().map_err(io_error("make the socket", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    move |source| BindError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("there").mode() & 0o7777
    }

    #[test]
    fn modes_are_right_and_nothing_is_left_behind() {
        let parent = tempfile::tempdir().expect("dir");
        let dir = parent.path().join("run");
        let socket = ControlSocket::bind(&dir, "no-such-group").expect("bound");
        assert_eq!(mode(&dir), 0o755);
        assert_eq!(mode(socket.path()), 0o660);
        assert_eq!(mode(&dir.join(LOCK_NAME)), 0o600);
        UnixStream::connect(socket.path()).expect("it listens");
        drop(socket);
        assert!(!dir.join(SOCKET_NAME).exists());
    }

    #[test]
    fn the_group_gets_the_socket() {
        let dir = tempfile::tempdir().expect("dir");
        let Some(daemon) = group_id("daemon").filter(|_| geteuid().is_root()) else {
            return;
        };
        let socket = ControlSocket::bind(dir.path(), "daemon").expect("bound");
        let there = fs::metadata(socket.path()).expect("there");
        assert_eq!((there.uid(), there.gid()), (0, daemon));
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(SOCKET_NAME);
        drop(UnixListener::bind(&path).expect("bound"));
        fs::write(dir.path().join(LOCK_NAME), "999999\n").expect("left-over lock");
        assert!(UnixStream::connect(&path).is_err(), "stale");
        let _socket = ControlSocket::bind(dir.path(), "no-such-group").expect("bound");
        UnixStream::connect(&path).expect("it listens");
        let lock = fs::read_to_string(dir.path().join(LOCK_NAME)).expect("lock");
        assert_eq!(lock, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_second_daemon_is_refused_by_the_lock() {
        let dir = tempfile::tempdir().expect("dir");
        let socket = ControlSocket::bind(dir.path(), "no-such-group").expect("bound");
        let error = ControlSocket::bind(dir.path(), "no-such-group").expect_err("refused");
        assert_eq!(error.exit_code(), CODE_UNAVAILABLE);
        let pid = std::process::id();
        assert!(
            error
                .to_string()
                .contains(&format!("already running (pid {pid})"))
        );
        UnixStream::connect(socket.path()).expect("the first one still listens");
    }

    #[test]
    fn a_second_daemon_is_refused_even_without_the_lock_file() {
        let dir = tempfile::tempdir().expect("dir");
        let _socket = ControlSocket::bind(dir.path(), "no-such-group").expect("bound");
        fs::remove_file(dir.path().join(LOCK_NAME)).expect("removed");
        let error = ControlSocket::bind(dir.path(), "no-such-group").expect_err("refused");
        let BindError::AlreadyRunning { pid, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(pid, Some(std::process::id()));
    }

    #[test]
    fn a_directory_that_everyone_can_write_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("mode");
        let error = ControlSocket::bind(dir.path(), "no-such-group").expect_err("refused");
        assert!(error.to_string().contains("writable by everyone"));
        assert_eq!(error.exit_code(), CODE_NOT_PERMITTED);
    }

    #[test]
    fn another_daemons_socket_is_not_removed() {
        let dir = tempfile::tempdir().expect("dir");
        let socket = ControlSocket::bind(dir.path(), "no-such-group").expect("bound");
        let path = socket.path().to_owned();
        fs::remove_file(&path).expect("removed");
        fs::write(dir.path().join("filler"), "").expect("takes the freed inode");
        let _other = UnixListener::bind(&path).expect("bound");
        drop(socket);
        assert!(path.exists());
    }
}
