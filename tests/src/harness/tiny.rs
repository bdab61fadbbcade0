//! The smallest program there is: ends with 0 after three instructions. For storms of new images.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;

/// `xor edi, edi; mov eax, 60 (exit); syscall`.
const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
/// Where the one segment is mapped.
const BASE: u64 = 0x40_0000;
/// Lengths of the ELF header and of a program header.
const HEADER: u16 = 64;
const SEGMENT: u16 = 56;

/// Writes it to this path, executable by all.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path) -> Result<()> {
    fs::write(path, image())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A static ELF file for x86_64.
fn image() -> Vec<u8> {
    let start = u64::from(HEADER + SEGMENT);
    let length = start + CODE.len() as u64;
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    // Executable, x86_64, version 1.
    out.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for number in [BASE + start, u64::from(HEADER), 0] {
        out.extend(number.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for number in [HEADER, SEGMENT, 1, 0, 0, 0] {
        out.extend(number.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    out.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0, BASE, BASE, length, length, 0x1000] {
        out.extend(number.to_le_bytes());
    }
    out.extend(CODE);
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn it_runs_and_ends() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("tiny");
        super::write(&path).expect("file");
        let ended =
            crate::harness::trigger::spawn_patiently(&mut Command::new(&path)).expect("start");
        let ended = ended.wait_with_output().expect("end");
        assert!(ended.status.success(), "{}", ended.status);
    }
}
