//! Names of users and groups: /etc/passwd and /etc/group at once, the name services (LDAP, SSSD) later.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::bounded::Bounded;
use super::text_file::TextFile;
use crate::text::escape;
use crate::time::BootNs;

/// Most names kept from one file.
const FILE_NAMES_MAX: usize = 65_536;
/// Most answers of the name services kept, for users and for groups each.
const NSS_NAMES_MAX: usize = 4_096;
/// How long an answer of the name services is good: a name, and that there is none.
const NAME_NS: u64 = 15 * 60 * 1_000_000_000;
const NO_NAME_NS: u64 = 60 * 1_000_000_000;

/// What is known of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Its name, escaped.
    Known(Arc<str>),
    /// It has none.
    None,
    /// Not in the files; the name services have to be asked, which may take seconds.
    Ask,
}

/// Users and groups of the host.
#[derive(Debug)]
pub struct Users {
    users: Directory,
    groups: Directory,
}

impl Users {
    /// The files in `etc`.
    #[must_use]
    pub fn new(etc: &Path) -> Self {
        Self {
            users: Directory::new(etc, "passwd"),
            groups: Directory::new(etc, "group"),
        }
    }

    /// The name of a user. Looks at the file at most once a second.
    pub fn user(&mut self, uid: u32, now: BootNs) -> Name {
        self.users.name(uid, now)
    }

    /// The name of a group.
    pub fn group(&mut self, gid: u32, now: BootNs) -> Name {
        self.groups.name(gid, now)
    }

    /// The name services' answer for a user.
    pub fn learn_user(&mut self, uid: u32, name: Option<Arc<str>>, now: BootNs) {
        self.users.answers.insert(uid, (name, now));
    }

    /// The name services' answer for a group.
    pub fn learn_group(&mut self, gid: u32, name: Option<Arc<str>>, now: BootNs) {
        self.groups.answers.insert(gid, (name, now));
    }
}

/// Asks the name services for a user. Slow: for the workers only.
#[must_use]
pub fn ask_user(uid: u32) -> Option<Arc<str>> {
    uzers::get_user_by_uid(uid).map(|user| escape(user.name().as_encoded_bytes()).into())
}

/// Asks the name services for a group. Slow: for the workers only.
#[must_use]
pub fn ask_group(gid: u32) -> Option<Arc<str>> {
    uzers::get_group_by_gid(gid).map(|group| escape(group.name().as_encoded_bytes()).into())
}

#[derive(Debug)]
struct Directory {
    file: TextFile,
    names: HashMap<u32, Arc<str>>,
    answers: Bounded<u32, (Option<Arc<str>>, BootNs)>,
}

impl Directory {
    fn new(etc: &Path, file: &str) -> Self {
        Self {
            file: TextFile::new(etc.join(file)),
            names: HashMap::new(),
            answers: Bounded::new(NSS_NAMES_MAX),
        }
    }

    fn name(&mut self, id: u32, now: BootNs) -> Name {
        if let Some(text) = self.file.changed(now) {
            self.names = parse(&text);
        }
        if let Some(name) = self.names.get(&id) {
            return Name::Known(Arc::clone(name));
        }
        match self.answers.get(&id) {
            Some((Some(name), at)) if now.since(*at) < NAME_NS => Name::Known(Arc::clone(name)),
            Some((None, at)) if now.since(*at) < NO_NAME_NS => Name::None,
            _ => Name::Ask,
        }
    }
}

/// `name:password:id:…`, the form of both files. The first line with an id decides, as in libc.
pub(super) fn parse(text: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // `+` and `-` start the lines that include NIS.
        if name.is_empty()
            || name.starts_with(b"#")
            || name.starts_with(b"+")
            || name.starts_with(b"-")
        {
            continue;
        }
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        if let Some(id) = id
            && names.len() < FILE_NAMES_MAX
        {
            names.entry(id).or_insert_with(|| escape(name).into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{NAME_NS, NO_NAME_NS, Name, Users, ask_group, ask_user, parse};
    use crate::time::BootNs;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_files_answer_and_are_read_anew() {
        let etc = tempfile::tempdir().expect("dir");
        let passwd = etc.path().join("passwd");
        std::fs::write(
            &passwd,
            "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\nbroken\n",
        )
        .expect("w");
        std::fs::write(etc.path().join("group"), "wheel:x:0:\n").expect("w");
        let mut users = Users::new(etc.path());
        assert_eq!(users.user(0, BootNs(SECOND)), Name::Known("root".into()));
        assert_eq!(users.group(0, BootNs(SECOND)), Name::Known("wheel".into()));
        assert_eq!(users.user(33, BootNs(SECOND)), Name::Ask);
        std::fs::write(&passwd, "root:x:0:0::/:\nwww\x1b[2J:x:33:33::/:\n").expect("w");
        assert_eq!(
            users.user(33, BootNs(SECOND + 1)),
            Name::Ask,
            "looked a moment ago"
        );
        let escaped = Name::Known(r"www\x1b[2J".into());
        assert_eq!(users.user(33, BootNs(3 * SECOND)), escaped);
    }

    #[test]
    fn answers_of_the_name_services_age() {
        let etc = tempfile::tempdir().expect("dir");
        let mut users = Users::new(etc.path());
        let at = BootNs(5 * SECOND);
        users.learn_user(1, Some("ldap".into()), at);
        users.learn_user(2, None, at);
        let later = |ns| BootNs(at.0 + ns);
        assert_eq!(
            users.user(1, later(NAME_NS - 1)),
            Name::Known("ldap".into())
        );
        assert_eq!(users.user(1, later(NAME_NS)), Name::Ask);
        assert_eq!(users.user(2, later(NO_NAME_NS - 1)), Name::None);
        assert_eq!(users.user(2, later(NO_NAME_NS)), Name::Ask);
        assert_eq!(users.group(1, at), Name::Ask, "groups are not users");
        users.learn_group(1, Some("staff".into()), at);
        assert_eq!(users.group(1, at), Name::Known("staff".into()));
    }

    #[test]
    fn the_name_services_know_root() {
        assert_eq!(ask_user(0).as_deref(), Some("root"));
        assert_eq!(ask_group(0).as_deref(), Some("root"));
        assert_eq!(ask_user(4_000_000_001), None);
    }

    proptest! {
        #[test]
        fn no_file_panics_or_names_control_characters(bytes in any::<Vec<u8>>()) {
            assert!(parse(&bytes).values().all(|name| !name.chars().any(char::is_control)));
        }
    }
}
