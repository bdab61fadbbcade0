//! Bounded reads of the small files by which the kernel tells about itself.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// At most `max` bytes of a file, as text; bytes that are not UTF-8 are replaced.
pub(super) fn text(path: &Path, max: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
