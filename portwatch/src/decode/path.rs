//! Paths as the kernel side stores them (leaf first), and the names of unix sockets.

use portwatch_common::socket::UNIX_NAME_LEN;
use portwatch_common::task::Image;

use super::DecodeError;
use super::record::UnixName;

/// Turns NUL-terminated components, leaf first (see [`Image`]), into an absolute path. No component at
/// all is the root.
///
/// A component may be empty or `/` where a walk has told of a root dentry; both add nothing.
pub(super) fn from_leaf_first(components: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.split(|&byte| byte == 0).rev() {
        if !component.is_empty() && component != b"/" {
            path.push(b'/');
            path.extend_from_slice(component);
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The name in a record. `resolved` is the resolved path in the data area, leaf first, empty when the
/// probe gave none; `cwd` is the working directory of the task that bound, absolute.
pub(super) fn unix_name(
    wire: &portwatch_common::listener::UnixName,
    resolved: &[u8],
    cwd: Option<&[u8]>,
) -> Result<Option<UnixName>, DecodeError> {
    let bytes = wire
        .bytes
        .get(..usize::from(wire.len))
        .ok_or(DecodeError::UnixNameLength(wire.len))?;
    let mut name = unix_name_of(bytes, cwd);
    if let Some(UnixName::Path { resolved: to, .. }) = &mut name
        && !resolved.is_empty()
    {
        *to = Some(from_leaf_first(resolved));
    }
    Ok(name)
}

/// Reads the bytes of `sun_path` as the kernel keeps them: empty is unnamed, a leading NUL is an
/// abstract name of exactly the rest, anything else is a path up to its first NUL.
///
/// A relative path is joined to `cwd` by its text alone: `..` takes one component away even where that
/// component is a symbolic link.
#[must_use]
pub fn unix_name_of(bytes: &[u8], cwd: Option<&[u8]>) -> Option<UnixName> {
    let bytes = &bytes[..bytes.len().min(UNIX_NAME_LEN)];
    let (&first, rest) = bytes.split_first()?;
    if first == 0 {
        return Some(UnixName::Abstract(rest.to_vec()));
    }
    let as_bound = bytes
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec();
    let resolved = if first == b'/' {
        Some(as_bound.clone())
    } else {
        cwd.map(|cwd| join(cwd, &as_bound))
    };
    Some(UnixName::Path { as_bound, resolved })
}

/// `base/relative` with `.`, `..` and doubled slashes taken out.
fn join(base: &[u8], relative: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    let both = base.split(|&byte| byte == b'/');
    for component in both.chain(relative.split(|&byte| byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    let mut path = vec![b'/'];
    path.extend(components.join(&b'/'));
    path
}

/// Lengths of the three texts of an image, in the order in which they lie in the data area.
pub(super) fn text_lengths(image: &Image) -> [usize; 3] {
    [image.exe_len, image.cwd_len, image.args_len].map(usize::from)
}

#[cfg(test)]
mod tests {
    use super::{UnixName, from_leaf_first, join, unix_name_of};

    #[test]
    fn components_are_turned_round() {
        assert_eq!(from_leaf_first(b"nginx\0sbin\0usr\0"), b"/usr/sbin/nginx");
        assert_eq!(from_leaf_first(b""), b"/");
        assert_eq!(from_leaf_first(b"/\0"), b"/");
        assert_eq!(from_leaf_first(b"x\0/\0"), b"/x");
        assert_eq!(from_leaf_first(b"memfd:a/b\0"), b"/memfd:a/b");
    }

    #[test]
    fn relative_paths_are_joined_by_their_text() {
        assert_eq!(join(b"/run/app", b"./sock"), b"/run/app/sock");
        assert_eq!(join(b"/run/app", b"../other//s"), b"/run/other/s");
        assert_eq!(join(b"/", b"../../s"), b"/s");
        assert_eq!(join(b"/a", b".."), b"/");
    }

    #[test]
    fn an_abstract_name_is_exactly_as_long_as_the_kernel_says() {
        assert_eq!(
            unix_name_of(b"\0a\0b\0", Some(b"/")),
            Some(UnixName::Abstract(b"a\0b\0".to_vec()))
        );
        assert_eq!(
            unix_name_of(b"\0", None),
            Some(UnixName::Abstract(Vec::new()))
        );
    }

    #[test]
    fn a_path_ends_at_its_nul_and_resolves_when_it_can() {
        assert_eq!(unix_name_of(b"", Some(b"/")), None);
        assert_eq!(
            unix_name_of(b"/run/x\0junk", None),
            Some(UnixName::Path {
                as_bound: b"/run/x".to_vec(),
                resolved: Some(b"/run/x".to_vec()),
            })
        );
        assert_eq!(
            unix_name_of(b"x\0", Some(b"/run")),
            Some(UnixName::Path {
                as_bound: b"x".to_vec(),
                resolved: Some(b"/run/x".to_vec()),
            })
        );
        assert_eq!(
            unix_name_of(b"x", None),
            Some(UnixName::Path {
                as_bound: b"x".to_vec(),
                resolved: None,
            })
        );
    }
}
