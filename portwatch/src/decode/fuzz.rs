//! Ring records of any bytes: what is decoded is sound, and what is not whole is refused.

use portwatch_common::header::Header;
use zerocopy::FromBytes as _;

use super::decode;
use super::record::{ImageInfo, Record, SockInfo, TaskInfo, UnixName, Who};
use crate::event::Family;
use crate::fuzzing::assert_plain;

/// The property of the target `record`.
pub fn record(bytes: &[u8]) {
    let decoded = decode(bytes);
    match &decoded {
        Err(error) => assert_plain(&error.to_string()),
        Ok(record) => {
            let own = own_bytes(bytes).unwrap_or_default();
            assert_eq!(
                decode(own).as_ref(),
                Ok(record),
                "bytes behind the record count"
            );
            let cut = own.len().saturating_sub(1);
            assert!(decode(&own[..cut]).is_err(), "a cut record is taken");
            assert_sound(record);
        }
    }
}

/// As many bytes as the record itself says it has.
pub(crate) fn own_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    bytes.get(..usize::try_from(header.len).ok()?)
}

fn assert_sound(record: &Record) {
    match record {
        Record::Opened(seen) | Record::Refused(seen) => {
            assert_eq!(seen.errno != 0, matches!(record, Record::Refused(_)));
            assert_sound_sock(&seen.sock);
            seen.unix.iter().for_each(assert_sound_name);
            assert_sound_who(&seen.who);
        }
        Record::Closed(seen) => assert_sound_sock(&seen.sock),
        Record::Exec(seen) => {
            assert_sound_task(&seen.task);
            assert_sound_image(&seen.image);
        }
        Record::Fork(seen) => {
            assert_sound_task(&seen.task);
            assert!(seen.parent.is_some());
        }
        Record::Exit(seen) => {
            assert_sound_task(&seen.task);
            assert!(seen.parent.is_none());
        }
        Record::State(seen) => {
            assert_sound_sock(&seen.sock);
            seen.owner.iter().for_each(assert_sound_task);
            assert!(seen.owner.as_ref().is_none_or(|owner| owner.key.pid != 0));
        }
        // Numbers and addresses, all of which are possible.
        Record::Crossed(_) => {}
        Record::Held(seen) => {
            assert_sound_sock(&seen.sock);
            seen.unix.iter().for_each(assert_sound_name);
            assert_sound_task(&seen.holder);
        }
    }
}

/// What is not known is absent, never zero; addresses are those of the family.
pub(crate) fn assert_sound_sock(sock: &SockInfo) {
    assert_ne!(sock.port, Some(0));
    assert_ne!(sock.peer_port, Some(0));
    assert_ne!(sock.inode, Some(0));
    assert_ne!(sock.cookie, Some(0));
    assert_ne!(sock.ifindex, Some(0));
    assert!(sock.peer.is_none_or(|peer| !peer.is_unspecified()));
    for address in [sock.local, sock.peer].into_iter().flatten() {
        let family = if address.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        assert_eq!(sock.family, family);
    }
}

/// A path has no NUL, and a resolved one is absolute.
pub(crate) fn assert_sound_name(name: &UnixName) {
    if let UnixName::Path { as_bound, resolved } = name {
        assert!(!as_bound.is_empty() && !as_bound.contains(&0));
        resolved.iter().for_each(|path| assert_path(path));
    }
}

fn assert_sound_who(who: &Who) {
    assert_sound_task(&who.task);
    who.image.iter().for_each(assert_sound_image);
    assert!(who.image.is_none() || !who.task.is_kthread);
    for ancestor in &who.ancestors {
        assert!(ancestor.key.pid != 0 && !ancestor.comm.contains(&0));
    }
}

fn assert_sound_task(task: &TaskInfo) {
    assert!(task.comm.len() <= 16 && !task.comm.contains(&0));
    assert_ne!(task.loginuid, Some(u32::MAX));
}

fn assert_sound_image(image: &ImageInfo) {
    image.exe.iter().for_each(|path| assert_path(path));
    image.cwd.iter().for_each(|path| assert_path(path));
    assert!(!(image.exe_deleted && image.exe_memfd));
    let args = image.args.iter().flatten();
    assert!(args.into_iter().all(|arg| !arg.contains(&0)));
}

fn assert_path(path: &[u8]) {
    assert!(path.starts_with(b"/") && !path.contains(&0));
}

/// One record of each kind.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    super::wire_test::samples()
}
