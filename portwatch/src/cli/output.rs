//! Standard output of streams: whole lines or none, whatever cuts in: a closed pipe, Ctrl-C, a slow reader.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, write};

/// Bytes that are collected before they are written without being asked to.
const BATCH: usize = 64 * 1024;
/// Linux: a write of at most so many bytes to a pipe is never split (`PIPE_BUF`), and a pipe that polls
/// writable has room for it.
const PIPE_ATOMIC: usize = 4096;
/// How soon a stop is noticed while the reader takes nothing.
const STOP_CHECK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Whether the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// Everything is out.
    Done,
    /// The reader is gone (`portwatch tail | head -1`): end with 0 and no message.
    Closed,
    /// A stop was asked for; the last line that went out is whole.
    Stopped,
}

/// Writes lines to a descriptor.
///
/// A stop (set by whoever handles SIGINT) is honoured between two lines, never inside one, and also while
/// the reader takes nothing. A line longer than a pipe takes in one piece is finished first.
#[derive(Debug)]
pub struct Output<F> {
    fd: F,
    buffer: Vec<u8>,
    stop: Arc<AtomicBool>,
    /// Most bytes of whole lines in one write.
    group: usize,
}

impl<F: AsFd> Output<F> {
    /// For standard output: `Output::new(std::io::stdout(), stop)`. Nothing else may write to it meanwhile.
    pub fn new(fd: F, stop: Arc<AtomicBool>) -> Self {
        let is_pipe =
            fstat(&fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        Self {
            fd,
            buffer: Vec::new(),
            stop,
            group: if is_pipe { PIPE_ATOMIC } else { BATCH },
        }
    }

    /// Adds a line, with or without its newline; writes when enough has come together.
    ///
    /// # Errors
    /// As [`Output::flush`].
    pub fn line(&mut self, line: &[u8]) -> io::Result<Written> {
        self.buffer.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            self.buffer.push(b'\n');
        }
        if self.buffer.len() >= BATCH {
            return self.flush();
        }
        Ok(Written::Done)
    }

    /// Adds whole lines, each with its newline, that are made in place; writes when enough has come together.
    ///
    /// # Errors
    /// As [`Output::flush`].
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<Written> {
        write(&mut self.buffer);
        if self.buffer.len() >= BATCH {
            return self.flush();
        }
        Ok(Written::Done)
    }

    /// Writes every line that waits. Call it at the end of each batch: when no further line is at hand.
    /// After [`Written::Closed`] or [`Written::Stopped`] nothing waits any more.
    ///
    /// # Errors
    /// When writing fails (disk full, for example), other than by a closed pipe.
    pub fn flush(&mut self) -> io::Result<Written> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write_lines(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        match result {
            Err(Errno::PIPE) => Ok(Written::Closed),
            other => Ok(other?),
        }
    }

    fn write_lines(&self, mut rest: &[u8]) -> Result<Written, Errno> {
        while !rest.is_empty() {
            if !self.wait_at_line_start()? {
                return Ok(Written::Stopped);
            }
            let (group, after) = rest.split_at(whole_lines(rest, self.group));
            self.write_group(group)?;
            rest = after;
        }
        Ok(if self.is_stopped() {
            Written::Stopped
        } else {
            Written::Done
        })
    }

    /// Writes whole lines; if that is interrupted by a stop, only up to the end of the line begun.
    fn write_group(&self, mut group: &[u8]) -> Result<(), Errno> {
        let mut is_line_start = true;
        while !group.is_empty() {
            if self.is_stopped() && !is_line_start {
                group = &group[..whole_lines(group, 0)];
            } else if self.is_stopped() {
                return Ok(());
            }
            match write(&self.fd, group) {
                Ok(written) => {
                    is_line_start = written == 0 || group[written - 1] == b'\n';
                    group = &group[written..];
                }
                Err(Errno::INTR) => {}
                // Somebody made the descriptor non-blocking, as terminals' other users do.
                Err(Errno::AGAIN) => self.wait(None).map(drop)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until something can be written; false when a stop comes first.
    fn wait_at_line_start(&self) -> Result<bool, Errno> {
        loop {
            if self.is_stopped() {
                return Ok(false);
            }
            if self.wait(Some(&STOP_CHECK))? {
                return Ok(true);
            }
        }
    }

    /// Is there room (or an error to be had by writing) within the time?
    fn wait(&self, time: Option<&Timespec>) -> Result<bool, Errno> {
        match poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], time) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Length of as many whole lines as fit in `limit` bytes, of one line at least.
fn whole_lines(text: &[u8], limit: usize) -> usize {
    let fitting = &text[..limit.min(text.len())];
    if let Some(last) = fitting.iter().rposition(|byte| *byte == b'\n') {
        return last + 1;
    }
    let first = text.iter().position(|byte| *byte == b'\n');
    first.map_or(text.len(), |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _};
    use std::time::Duration;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::pipe::{fcntl_getpipe_size, pipe};

    use super::*;

    fn stop() -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(false))
    }

    fn pipe_output(stop: &Arc<AtomicBool>) -> (File, Output<std::os::fd::OwnedFd>) {
        let (reader, writer) = pipe().expect("pipe");
        (File::from(reader), Output::new(writer, Arc::clone(stop)))
    }

    /// What is in the pipe once its writer is gone.
    fn all(mut reader: File) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    }

    #[test]
    fn lines_end_and_come_in_order() {
        let (reader, mut output) = pipe_output(&stop());
        assert_eq!(output.line(b"one\n").expect("written"), Written::Done);
        assert_eq!(output.line(b"two").expect("written"), Written::Done);
        assert_eq!(output.flush().expect("written"), Written::Done);
        drop(output);
        assert_eq!(all(reader), "one\ntwo\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let (reader, mut output) = pipe_output(&stop());
        drop(reader);
        assert_eq!(output.line(b"x").expect("kept"), Written::Done);
        assert_eq!(output.flush().expect("told"), Written::Closed);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("opened");
        let mut output = Output::new(full, stop());
        let _ = output.line(b"x").expect("kept");
        let error = output.flush().expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Fills the pipe with lines of `size` until the writer blocks, stops it, and reads what came.
    fn stopped_in_the_middle(size: usize) -> String {
        let stop = stop();
        let (mut reader, mut output) = pipe_output(&stop);
        let line = vec![b'x'; size];
        let capacity = fcntl_getpipe_size(&reader).expect("size");
        let writer = std::thread::spawn(move || {
            loop {
                let written = output.line(&line).and_then(|written| match written {
                    Written::Done => output.flush(),
                    other => Ok(other),
                });
                match written.expect("written") {
                    Written::Done => {}
                    other => return other,
                }
            }
        });
        let mut text = vec![0; capacity / 2];
        reader.read_exact(&mut text).expect("half of it");
        std::thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        reader.read_to_end(&mut text).expect("the rest");
        assert_eq!(writer.join().expect("ended"), Written::Stopped);
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_stop_never_leaves_half_a_line() {
        for size in [100, 4095, 4096, 5000, 60_000] {
            let text = stopped_in_the_middle(size);
            assert!(text.ends_with('\n'), "{size}");
            assert!(text.lines().all(|line| line.len() == size), "{size}");
        }
    }

    #[test]
    fn a_stop_is_noticed_while_the_reader_sleeps() {
        let stop = stop();
        let (reader, mut output) = pipe_output(&stop);
        let writer = std::thread::spawn(move || {
            loop {
                if output.line(&[b'x'; 999]).expect("written") == Written::Stopped {
                    return;
                }
            }
        });
        let mut readable = [PollFd::new(&reader, PollFlags::IN)];
        poll(&mut readable, None).expect("something is written");
        std::thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        // Joined although nobody has read a byte.
        writer.join().expect("ended");
        let text = all(reader);
        assert!(text.lines().all(|line| line.len() == 999) && text.ends_with('\n'));
    }

    #[test]
    fn a_non_blocking_descriptor_loses_nothing() {
        let (reader, mut output) = pipe_output(&stop());
        let flags = fcntl_getfl(&output.fd).expect("flags");
        fcntl_setfl(&output.fd, flags | OFlags::NONBLOCK).expect("set");
        let text = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            all(reader)
        });
        for _ in 0..20 {
            assert_eq!(
                output.line(&[b'y'; 30_000]).expect("written"),
                Written::Done
            );
        }
        assert_eq!(output.flush().expect("written"), Written::Done);
        drop(output);
        let text = text.join().expect("read");
        assert_eq!(text.lines().filter(|line| line.len() == 30_000).count(), 20);
        assert_eq!(text.len(), 20 * 30_001);
    }

    #[test]
    fn a_file_gets_large_writes() {
        let mut file = tempfile::tempfile().expect("file");
        let mut output = Output::new(file.try_clone().expect("clone"), stop());
        assert_eq!(output.group, BATCH);
        for _ in 0..1000 {
            assert_eq!(output.line(&[b'z'; 100]).expect("written"), Written::Done);
        }
        assert_eq!(output.flush().expect("written"), Written::Done);
        file.rewind().expect("rewound");
        assert_eq!(all(file).len(), 101_000);
    }

    #[test]
    fn groups_hold_whole_lines() {
        assert_eq!(whole_lines(b"ab\ncd\nef\n", 7), 6);
        assert_eq!(whole_lines(b"ab\ncd\n", 6), 6);
        assert_eq!(whole_lines(b"abcdef\ngh\n", 3), 7);
        assert_eq!(whole_lines(b"ab\ncd\n", 0), 3);
    }
}
