//! Package databases with any bytes in them.

use super::dpkg;
use super::rpm_header::Header;

/// An rpm header gives names that lie within it; a dpkg diversion leads to a line of its file.
pub(crate) fn databases(bytes: &[u8]) {
    if let Some(header) = Header::parse(bytes) {
        let is_text = |text: &[u8]| !text.contains(&0) && text.len() < bytes.len();
        assert!(header.name().is_none_or(is_text));
        for index in [0, 1, 2, usize::MAX] {
            let file = header.file(index);
            assert!(file.is_none_or(|(dir, base)| is_text(dir) && is_text(base)));
        }
        assert!(header.file(usize::MAX).is_none());
    }
    let first = bytes
        .split(|byte| *byte == b'\n')
        .nth(1)
        .unwrap_or_default();
    for name in [first, b"/bin/sh"] {
        let path = dpkg::question(bytes, name).path;
        let is_line = bytes.split(|byte| *byte == b'\n').any(|line| line == path);
        assert!(path == name || is_line);
    }
}

/// An rpm header and dpkg's diversions.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let files = [("/etc/", "nginx"), ("/usr/sbin/", "nginx")];
    vec![
        (
            "rpm",
            super::rpm_header::tests::header("nginx-core", &files),
        ),
        (
            "diversions",
            b"/bin/sh\n/bin/sh.distrib\ndash\n/usr/bin/x\n/usr/bin/x.real\n:\n".to_vec(),
        ),
    ]
}
