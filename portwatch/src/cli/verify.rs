//! `portwatch verify`: does the hash chain over these files hold?

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::args;
use super::exit::Exit;
use super::failure::{Failure, guard_lines};
use super::print;
use crate::sink::MAX_LINE;
use crate::sink::chain::{Link, Verifier};

/// Says that the chain holds and where it ends, or what is wrong first; with 1 then.
pub(super) fn run(args: &args::Verify) -> Result<Exit, Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        files.push((first_number(path)?, path));
    }
    // A rotated file comes before the one that is written to, however they are called.
    files.sort_by_key(|(number, _)| number.unwrap_or(u64::MAX));
    let mut verifier = Verifier::from(args.from.get(), args.head);
    for (_, path) in files {
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next()? {
            if let Err(fault) = verifier.push(line) {
                return broken(&format!("{}:{}: {fault}", path.display(), lines.count));
            }
        }
    }
    match verifier.finish() {
        // Whoever empties a file of evidence must not be told that all is well.
        Ok(head) if head.number < args.from.get() => {
            broken(&format!("there is no record {}", args.from))
        }
        Ok(head) => {
            let from = args.from;
            let text = format!("records {from} to {} hold; head {head}\n", head.number);
            print(text.as_bytes())
        }
        Err(fault) => broken(&fault.to_string()),
    }
}

fn broken(text: &str) -> Result<Exit, Failure> {
    // A file's name may be anything.
    print(format!("{}\n", guard_lines(text)).as_bytes())?;
    Ok(Exit::Different)
}

/// The number of the first record, where it has one.
fn first_number(path: &Path) -> Result<Option<u64>, Failure> {
    let mut lines = Lines::open(path)?;
    let link = lines.next()?.and_then(Link::read);
    Ok(link.map(|link| link.number))
}

/// Lines of a file, packed with gzip or not, of bounded length.
struct Lines<'p> {
    path: &'p Path,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    /// Lines so far.
    count: u64,
}

impl<'p> Lines<'p> {
    fn open(path: &'p Path) -> Result<Self, Failure> {
        let open = || -> io::Result<Box<dyn BufRead>> {
            let mut reader = BufReader::new(File::open(path)?);
            Ok(if reader.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
                Box::new(BufReader::new(MultiGzDecoder::new(reader)))
            } else {
                Box::new(reader)
            })
        };
        Ok(Self {
            path,
            reader: open().map_err(|error| unreadable(path, &error))?,
            line: Vec::new(),
            count: 0,
        })
    }

    /// The next line without its newline. One that has none, or is longer than any of ours, comes as nothing: it
    /// was cut off, or is none.
    fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        let read = self
            .reader
            .by_ref()
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| unreadable(self.path, &error))?;
        if read == 0 {
            return Ok(None);
        }
        self.count += 1;
        Ok(Some(self.line.strip_suffix(b"\n").unwrap_or_default()))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Io,
    };
    Failure::new(
        exit,
        format_args!("{} cannot be read: {error}", path.display()),
    )
}
