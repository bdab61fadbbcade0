//! Which superblock a file lies on, by its mount id and /proc/PID/mountinfo.

use super::proc_fs::kernel_dev;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// `s_dev`: what kernel records carry. stat(2) shows another number on btrfs and overlayfs.
    pub(super) dev: u32,
    /// A user-space program answers for its files, or does not.
    pub(super) is_fuse: bool,
}

/// Finds a mount in the text of mountinfo (proc_pid_mountinfo(5)).
pub(super) fn superblock(mountinfo: &[u8], mount_id: u64) -> Option<Superblock> {
    mountinfo.split(|&b| b == b'\n').find_map(|line| {
        // Spaces within names are escaped, so fields are what lies between spaces.
        let mut fields = line.split(|&b| b == b' ');
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        if number(fields.next()?)? != mount_id {
            return None;
        }
        let dev = std::str::from_utf8(fields.nth(1)?).ok()?;
        let (major, minor) = dev.split_once(':')?;
        // Optional fields end with a single dash.
        let kind = fields.by_ref().skip_while(|field| *field != b"-").nth(1)?;
        Some(Superblock {
            dev: kernel_dev(major.parse().ok()?, minor.parse().ok()?),
            is_fuse: kind.starts_with(b"fuse"),
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Superblock, superblock};

    const TEXT: &[u8] = b"22 1 0:31 / / rw,relatime shared:1 - btrfs /dev/sda rw\n\
        36 22 98:3 /a /mnt\\040x rw master:1 propagate_from:2 - ext4 /dev/x rw\n\
        40 22 0:55 / /home/u/m rw - fuse.sshfs host: rw\nbroken\n41 22 x:y / / - - -";

    #[test]
    fn a_mount_is_found_by_its_id() {
        let of = |dev, is_fuse| Some(Superblock { dev, is_fuse });
        assert_eq!(superblock(TEXT, 22), of(31, false));
        assert_eq!(superblock(TEXT, 36), of(98 << 20 | 3, false));
        assert_eq!(superblock(TEXT, 40), of(55, true));
        assert_eq!(superblock(TEXT, 41), None);
        assert_eq!(superblock(TEXT, 99), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes in any::<Vec<u8>>(), id in any::<u64>()) {
            let _ = superblock(&bytes, id);
        }
    }
}
