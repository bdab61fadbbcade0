//! `process` with its `parent` and `entry_leader`, and who it runs as.

use serde::Serialize;

use crate::event;
use crate::render::facts::{self, Entry};

/// A user or group. The id is text, as ECS wants it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Id<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
}

impl<'e> Id<'e> {
    /// `None` of nothing.
    pub(super) fn of(id: Option<u32>, name: Option<&'e str>) -> Option<Self> {
        (id.is_some() || name.is_some()).then(|| Self {
            id: id.map(|id| id.to_string()),
            name,
        })
    }
}

/// The process that did it.
#[derive(Debug, Serialize)]
pub(super) struct Process<'e> {
    pid: u32,
    name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'e [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    real_user: Option<Id<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    real_group: Option<Id<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_leader: Option<EntryLeader<'e>>,
}

#[derive(Debug, Serialize)]
struct Thread {
    id: u32,
}

#[derive(Debug, Serialize)]
struct Hash<'e> {
    sha256: &'e str,
}

#[derive(Debug, Serialize)]
struct Parent<'e> {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<&'e str>,
}

#[derive(Debug, Serialize)]
struct EntryLeader<'e> {
    pid: u32,
    name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<&'e str>,
    same_as_process: bool,
    entry_meta: EntryMeta,
}

#[derive(Debug, Serialize)]
struct EntryMeta {
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'e> Process<'e> {
    /// Of this process.
    pub(super) fn of(process: &'e event::Process) -> Self {
        Self {
            pid: process.pid,
            name: &process.name,
            executable: process.exe.as_deref(),
            args: process.args.as_deref().filter(|args| !args.is_empty()),
            // A part of them has no count.
            args_count: process
                .args
                .as_ref()
                .filter(|_| process.args_truncated != Some(true))
                .map(Vec::len),
            command_line: facts::command_line(process),
            working_directory: process.cwd.as_deref(),
            start: process.start_time.as_deref(),
            thread: process.tid.map(|id| Thread { id }),
            real_user: Id::of(process.uid, process.user.as_deref()),
            real_group: Id::of(process.gid, process.group.as_deref()),
            hash: process.sha256.as_deref().map(|sha256| Hash { sha256 }),
            parent: Parent::of(process),
            entry_leader: facts::entry(process).map(EntryLeader::of),
        }
    }
}

impl<'e> Parent<'e> {
    fn of(process: &'e event::Process) -> Option<Self> {
        let nearest = process.ancestors.first();
        let pid = process.ppid.or(nearest.map(|ancestor| ancestor.pid))?;
        // A parent that has gone leaves its number, and somebody else's name would be wrong.
        let nearest = nearest.filter(|ancestor| ancestor.pid == pid);
        Some(Self {
            pid,
            name: nearest.map(|ancestor| ancestor.name.as_str()),
            executable: nearest.and_then(|ancestor| ancestor.exe.as_deref()),
        })
    }
}

impl<'e> EntryLeader<'e> {
    fn of(entry: Entry<'e>) -> Self {
        Self {
            pid: entry.pid,
            name: entry.name,
            executable: entry.exe,
            same_as_process: entry.is_self,
            entry_meta: EntryMeta {
                kind: entry.through,
            },
        }
    }
}
