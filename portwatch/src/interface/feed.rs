//! What comes from the daemon, taken apart as it arrives: lines of data, blocks of states, the end.

use std::io::{self, Read};
use std::sync::Arc;

use super::client::{ClientError, parse};
use super::protocol::Reply;
use crate::sink::block::{Head, Malformed};
use crate::sink::{BlockReader, MAX_LINE, States};

/// Longest line that is taken from a daemon. Events have at most 64 KiB; a status may have more.
pub(super) const MAX_DATA: usize = 4 * MAX_LINE;
/// Bytes that are taken from the connection at once, unless one line or block is longer.
const BUFFER: usize = 4 * MAX_LINE;
/// More than the longest block has: its head, its owners and its rows.
const MAX_BUFFER: usize = 2 * MAX_DATA;
/// How a line of data begins.
pub(super) const DATA: &str = r#"{"schema":"#;

/// A part of a stream.
#[derive(Debug)]
pub enum Piece {
    /// Whole lines of JSON, which the caller's buffer holds now.
    Lines,
    /// State changes; their first number is the one in this answer.
    States(Arc<States>),
    /// The daemon says that no more will come.
    End,
}

/// The bytes that have come and were not taken yet.
#[derive(Debug)]
pub(super) struct Feed<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    blocks: BlockReader,
}

impl<R: Read> Feed<R> {
    /// What comes from here.
    pub(super) fn of(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            blocks: BlockReader::default(),
        }
    }

    pub(super) const fn input(&self) -> &R {
        &self.input
    }

    /// Reads once more; false where the connection ends.
    pub(super) fn fill(&mut self) -> Result<bool, ClientError> {
        self.make_room()?;
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(ClientError::Stuck);
                    }
                    // How the kernel says that the server closed with our request unread.
                    io::ErrorKind::ConnectionReset => return Ok(false),
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// Takes what is at hand without waiting: every whole line of data into `lines`, or one block. `None`
    /// when nothing is whole yet.
    pub(super) fn take(&mut self, lines: &mut String) -> Result<Option<Piece>, ClientError> {
        lines.clear();
        let length = self.data_at_hand();
        if length > 0 {
            let data = &self.buffer[self.start..self.start + length];
            lines.push_str(str::from_utf8(data).map_err(|_| not_utf8())?);
            self.start += length;
            return Ok(Some(Piece::Lines));
        }
        if self.at_hand().starts_with(Head::START.as_bytes()) {
            return Ok(self.block()?.map(Piece::States));
        }
        match self.line()? {
            Some(line) => ended(line).map(|()| Some(Piece::End)),
            None => Ok(None),
        }
    }

    /// A line of data, or `None` at the end that the daemon announced. Waits for it.
    pub(super) fn next_data(&mut self) -> Result<Option<String>, ClientError> {
        let line = self.next_line()?.ok_or(ClientError::Lost)?;
        if line.starts_with(DATA) {
            return Ok(Some(line));
        }
        ended(&line).map(|()| None)
    }

    /// A line without its newline, or `None` where the connection ends. Half a line is no line.
    pub(super) fn next_line(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(line) = self.line()? {
                return Ok(Some(line.to_owned()));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn at_hand(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Length of the whole lines of data at the start.
    fn data_at_hand(&self) -> usize {
        let at_hand = self.at_hand();
        let mut length = 0;
        while let Some(rest) = at_hand.get(length..)
            && rest.starts_with(DATA.as_bytes())
            && let Some(end) = newline(rest)
        {
            length += end + 1;
        }
        length
    }

    /// Takes one line, whatever it is.
    fn line(&mut self) -> Result<Option<&str>, ClientError> {
        let Some(end) = newline(self.at_hand()) else {
            return if self.at_hand().len() > MAX_DATA {
                Err(too_long())
            } else {
                Ok(None)
            };
        };
        if end > MAX_DATA {
            return Err(too_long());
        }
        let line = &self.buffer[self.start..self.start + end];
        self.start += end + 1;
        str::from_utf8(line).map(Some).map_err(|_| not_utf8())
    }

    /// Takes a block when it has come as a whole.
    fn block(&mut self) -> Result<Option<Arc<States>>, ClientError> {
        let at_hand = &self.buffer[self.start..self.end];
        let mut at = 0;
        let Some(line) = line_at(at_hand, &mut at)? else {
            return Ok(None);
        };
        let head = Head::parse(line).map_err(malformed)?;
        let mut owners = Vec::with_capacity(head.owners.into());
        for _ in 0..head.owners {
            let Some(owner) = line_at(at_hand, &mut at)? else {
                return Ok(None);
            };
            owners.push(owner);
        }
        let Some(rows) = at_hand.get(at..at + head.rows_len()) else {
            return Ok(None);
        };
        let length = at + rows.len();
        let states = self.blocks.read(head, owners.into_iter(), rows);
        self.start += length;
        states.map(Some).map_err(malformed)
    }

    /// Moves what was not taken to the front; grows where one piece fills everything.
    fn make_room(&mut self) -> Result<(), ClientError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end < self.buffer.len() {
            return Ok(());
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            return Ok(());
        }
        if self.buffer.len() >= MAX_BUFFER {
            return Err(too_long());
        }
        self.buffer.resize(2 * self.buffer.len(), 0);
        Ok(())
    }
}

/// The line of the daemon that ends the data, or says why.
fn ended(line: &str) -> Result<(), ClientError> {
    let reply: Reply = parse(line.as_bytes())?;
    match reply.error {
        Some(fault) => Err(ClientError::Refused(fault)),
        None if reply.end => Ok(()),
        None => Err(ClientError::Protocol("neither data nor end".to_owned())),
    }
}

fn line_at<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a str>, ClientError> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let Some(end) = newline(rest) else {
        return Ok(None);
    };
    *at += end + 1;
    str::from_utf8(&rest[..end])
        .map(Some)
        .map_err(|_| not_utf8())
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

fn too_long() -> ClientError {
    ClientError::Protocol(format!("a line of more than {MAX_DATA} bytes"))
}

fn not_utf8() -> ClientError {
    ClientError::Protocol("a line that is not UTF-8".to_owned())
}

fn malformed(error: Malformed) -> ClientError {
    ClientError::Protocol(error.to_string())
}
