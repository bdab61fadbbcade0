//! The process that did it, with its file, user, container, parent and ancestors.

use serde::Serialize;

use super::Product;
use crate::event::{self, Ancestor};
use crate::render::facts;

/// Who acted.
#[derive(Debug, Serialize)]
pub(super) struct Actor<'e> {
    process: Process<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'e>>,
}

impl<'e> Actor<'e> {
    /// The process and its user.
    pub(super) fn of(process: &'e event::Process) -> Self {
        Self {
            process: Process::of(process),
            user: User::of(process.user.as_deref(), process.uid),
        }
    }
}

/// A user or a group.
#[derive(Debug, Serialize)]
struct User<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

impl<'e> User<'e> {
    /// `None` of nothing.
    fn of(name: Option<&'e str>, id: Option<u32>) -> Option<Self> {
        (name.is_some() || id.is_some()).then(|| Self {
            name,
            uid: id.map(|id| id.to_string()),
        })
    }
}

/// A process.
#[derive(Debug, Serialize)]
pub(super) struct Process<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// The same where it is larger than any pid of Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ptid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<User<'e>>,
    /// Who logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    auid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_process: Option<Box<Process<'e>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ancestry: Vec<Entity<'e>>,
}

/// An executable.
#[derive(Debug, Serialize)]
struct File<'e> {
    name: &'e str,
    path: &'e str,
    type_id: u16,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<[Fingerprint<'e>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<Product<'e>>,
}

#[derive(Debug, Serialize)]
struct Fingerprint<'e> {
    algorithm_id: u16,
    algorithm: &'static str,
    value: &'e str,
}

#[derive(Debug, Serialize)]
struct Container<'e> {
    uid: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'e str>,
}

/// One parent in the chain.
#[derive(Debug, Serialize)]
struct Entity<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'e str>,
}

impl<'e> Process<'e> {
    /// Of this process.
    pub(super) fn of(process: &'e event::Process) -> Self {
        Self {
            ptid: process.tid,
            name: Some(&process.name),
            path: process.exe.as_deref(),
            file: process.exe.as_deref().map(|path| File::of(path, process)),
            cmd_line: facts::command_line(process),
            working_directory: process.cwd.as_deref(),
            created_time: process
                .start_time
                .as_deref()
                .and_then(facts::moment)
                .map(jiff::Timestamp::as_millisecond),
            user: User::of(process.user.as_deref(), process.uid),
            group: User::of(process.group.as_deref(), process.gid),
            auid: auid(process),
            container: process.container.as_ref().map(|container| Container {
                uid: &container.id,
                runtime: container.runtime.as_deref(),
            }),
            parent_process: Self::parent(process).map(Box::new),
            ancestry: process.ancestors.iter().map(Entity::of).collect(),
            ..Self::numbered(process.pid)
        }
    }

    /// Does it say what only the profile of Linux has?
    pub(super) fn is_linux(process: &event::Process) -> bool {
        process.group.is_some() || process.gid.is_some() || auid(process).is_some()
    }

    fn parent(process: &'e event::Process) -> Option<Self> {
        let nearest = process.ancestors.first();
        let pid = process.ppid.or(nearest.map(|ancestor| ancestor.pid))?;
        // A parent that has gone leaves its number, and somebody else's name would be wrong.
        let nearest = nearest.filter(|ancestor| ancestor.pid == pid);
        Some(Self {
            name: nearest.map(|ancestor| ancestor.name.as_str()),
            path: nearest.and_then(|ancestor| ancestor.exe.as_deref()),
            ..Self::numbered(pid)
        })
    }

    /// A process of which only the number is known.
    fn numbered(pid: u32) -> Self {
        let number = i32::try_from(pid).ok();
        Self {
            pid: number,
            uid: number.is_none().then(|| pid.to_string()),
            ptid: None,
            name: None,
            path: None,
            file: None,
            cmd_line: None,
            working_directory: None,
            created_time: None,
            user: None,
            group: None,
            auid: None,
            container: None,
            parent_process: None,
            ancestry: Vec::new(),
        }
    }
}

fn auid(process: &event::Process) -> Option<i32> {
    process.loginuid.and_then(|id| id.try_into().ok())
}

impl<'e> File<'e> {
    fn of(path: &'e str, process: &'e event::Process) -> Self {
        Self {
            name: facts::base_name(path),
            path,
            type_id: 8,
            kind: "Executable File",
            is_deleted: process.exe_deleted,
            hashes: process.sha256.as_deref().map(|value| {
                [Fingerprint {
                    algorithm_id: 3,
                    algorithm: "SHA-256",
                    value,
                }]
            }),
            product: process.package.as_deref().map(Product::package),
        }
    }
}

impl<'e> Entity<'e> {
    fn of(ancestor: &'e Ancestor) -> Self {
        Self {
            pid: ancestor.pid.try_into().ok(),
            name: &ancestor.name,
            path: ancestor.exe.as_deref(),
        }
    }
}
