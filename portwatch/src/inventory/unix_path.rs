//! Unix sockets that were bound to a path relative to a directory. Pure.

use super::Inventory;
use crate::decode::record::{SockId, UnixName};

/// Longest path made here, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

impl UnixName {
    /// Is this a path of which only the relative form is known?
    #[must_use]
    pub fn is_relative(&self) -> bool {
        matches!(self, Self::Path { as_bound, resolved: None } if !as_bound.starts_with(b"/"))
    }
}

impl Inventory {
    /// Remembers the name that a listener was told with, so that all of its events have the same.
    pub fn set_unix_name(&mut self, id: SockId, name: UnixName) {
        if let Some(entry) = self.table.get_mut(id) {
            std::sync::Arc::make_mut(&mut entry.listener).unix = Some(name);
        }
    }
}

/// A relative name, resolved against a directory, a path as `/proc/PID/cwd` shows it. Lexically: `.` and
/// `..` are taken for what they say. None for a directory that has no path (deleted, out of reach), and
/// for a name that is not relative.
#[must_use]
pub fn absolute(name: &UnixName, directory: &[u8]) -> Option<UnixName> {
    let UnixName::Path { as_bound, .. } = name else {
        return None;
    };
    let has_path = directory.starts_with(b"/") && !directory.ends_with(b" (deleted)");
    if !(name.is_relative() && has_path) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let parts = [directory, as_bound.as_slice()];
    for part in parts
        .iter()
        .flat_map(|path| path.split(|&byte| byte == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let resolved = [b"/".as_slice(), &kept.join(b"/".as_slice())].concat();
    (resolved.len() <= PATH_MAX).then(|| UnixName::Path {
        as_bound: as_bound.clone(),
        resolved: Some(resolved),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::absolute;
    use crate::decode::record::UnixName;

    fn bound(path: &[u8]) -> UnixName {
        UnixName::Path {
            as_bound: path.to_vec(),
            resolved: None,
        }
    }

    fn resolved(path: &[u8], directory: &[u8]) -> Option<Vec<u8>> {
        match absolute(&bound(path), directory)? {
            UnixName::Path { as_bound, resolved } => {
                assert_eq!(as_bound, path, "the name as bound stays");
                resolved
            }
            UnixName::Abstract(_) => None,
        }
    }

    #[test]
    fn a_relative_name_is_resolved_against_the_directory() {
        for (path, directory, expected) in [
            ("run/app.sock", "/srv/app", "/srv/app/run/app.sock"),
            ("app.sock", "/", "/app.sock"),
            ("./a//b/../c", "/srv", "/srv/a/c"),
            ("../../../x", "/srv/app", "/x"),
            ("x", "/a (deleted)/b", "/a (deleted)/b/x"),
        ] {
            let found = resolved(path.as_bytes(), directory.as_bytes());
            assert_eq!(found.as_deref(), Some(expected.as_bytes()), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_left_alone() {
        assert_eq!(resolved(b"/run/x", b"/srv"), None, "absolute already");
        assert_eq!(resolved(b"x", b"/srv (deleted)"), None);
        assert_eq!(resolved(b"x", b"(unreachable)/srv"), None);
        assert_eq!(absolute(&UnixName::Abstract(b"x".to_vec()), b"/srv"), None);
        let known = absolute(&bound(b"x"), b"/srv").expect("a name");
        assert_eq!(absolute(&known, b"/elsewhere"), None, "resolved already");
    }

    proptest! {
        #[test]
        fn a_resolved_name_is_absolute_and_plain(path in "[a./]{1,30}", directory in "/[a./]{0,30}") {
            if let Some(found) = resolved(path.as_bytes(), directory.as_bytes()) {
                prop_assert!(found.starts_with(b"/"));
                let odd = found.split(|&byte| byte == b'/').skip(1).any(|part| matches!(part, b"." | b".."));
                prop_assert!(!odd, "{}", String::from_utf8_lossy(&found));
            } else {
                prop_assert!(path.starts_with('/'));
            }
        }
    }
}
