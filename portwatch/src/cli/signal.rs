//! What ends a stream from outside: Ctrl-C, SIGTERM, or a reader of standard output that went away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::exit::Exit;

/// Hears of the end in threads of its own, so that no work, however long, delays it.
#[derive(Clone, Debug)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// For [`super::output::Output`], which looks between two lines.
    stop: Arc<AtomicBool>,
    /// The first reason counts.
    exit: OnceLock<Exit>,
    /// For those who wait in async code.
    notify: Notify,
    /// For those who wait in poll(2); readable once the end is asked for.
    event: OwnedFd,
}

impl Interrupt {
    /// Takes SIGINT and SIGTERM over, and watches standard output. A second signal ends the process at once.
    ///
    /// # Errors
    /// When threads, descriptors or signal handlers cannot be had.
    pub fn install() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stop: Arc::new(AtomicBool::new(false)),
            exit: OnceLock::new(),
            notify: Notify::new(),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (interrupt, terminate) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            )
        };
        let this = Self { shared };
        let signals = this.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(signals.hear(interrupt, terminate)))?;
        let stdout = this.clone();
        thread::Builder::new()
            .name("stdout-watch".to_owned())
            .spawn(move || {
                if wait_for_reader_to_go(io::stdout()) {
                    stdout.end(Exit::Ok);
                }
            })?;
        Ok(this)
    }

    /// Set once the end is asked for.
    #[must_use]
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.stop)
    }

    /// How the process is to end; [`Exit::Ok`] while nobody asked.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.shared.exit.get().copied().unwrap_or(Exit::Ok)
    }

    /// Completes when the end is asked for. For one waiter; cancelling it loses nothing.
    pub async fn asked(&self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.shared.notify.notified().await;
        }
    }

    async fn hear(&self, mut interrupt: Signal, mut terminate: Signal) {
        self.end(next(&mut interrupt, &mut terminate).await);
        let exit = next(&mut interrupt, &mut terminate).await;
        // Whoever asks twice does not want to wait for whatever holds the first request up.
        std::process::exit(exit.code().into());
    }

    fn end(&self, exit: Exit) {
        let _ = self.shared.exit.set(exit);
        self.shared.stop.store(true, Ordering::Release);
        self.shared.notify.notify_one();
        // Fails only when the counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.shared.event, &1_u64.to_ne_bytes());
    }
}

/// Readable once the end is asked for.
impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> Exit {
    tokio::select! {
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
    }
}

/// Waits until nobody can read any more what is written; false when that cannot be known. Files and devices
/// wait for ever.
fn wait_for_reader_to_go(fd: impl AsFd) -> bool {
    loop {
        // Nothing is asked for: errors and hang-ups are always told.
        match poll(&mut [PollFd::new(&fd, PollFlags::empty())], None) {
            Err(Errno::INTR) | Ok(0) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pipe_without_reader_is_noticed_without_writing() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let watcher = thread::spawn(move || wait_for_reader_to_go(writer));
        thread::sleep(Duration::from_millis(30));
        assert!(!watcher.is_finished(), "the reader is there");
        drop(reader);
        assert!(watcher.join().expect("ended"));
    }

    #[test]
    fn a_socket_without_peer_is_noticed_too() {
        let (here, there) = std::os::unix::net::UnixStream::pair().expect("pair");
        let watcher = thread::spawn(move || wait_for_reader_to_go(here));
        drop(there);
        assert!(watcher.join().expect("ended"));
    }
}
