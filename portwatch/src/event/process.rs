//! The `process` object of an event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process, as far as it could be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread that called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tid: Option<u32>,
    /// Parent's process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ppid: Option<u32>,
    /// Name (comm), at most 15 bytes; control bytes escaped.
    pub name: String,
    /// Path of the executable, without ` (deleted)`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
    /// The executable's file is gone from its directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe_deleted: Option<bool>,
    /// The executable never was a file: memfd.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe_memfd: Option<bool>,
    /// Arguments, the program's own name first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub args: Option<Vec<String>>,
    /// The arguments were longer than what was kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub args_truncated: Option<bool>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cwd: Option<String>,
    /// Start of the process: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_time: Option<String>,
    /// Real user id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Real group id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// User who logged in, from the audit subsystem; absent when no login led here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loginuid: Option<u32>,
    /// SHA-256 of the executable, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// Package that owns the executable, from the dpkg or rpm database.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub package: Option<String>,
    /// systemd unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// Container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<Container>,
    /// Chain of parents, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ancestors: Vec<Ancestor>,
    /// Why the rest is missing, when the process could not be resolved.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unresolved: Option<String>,
}

/// A container, from the cgroup path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// The runtime's id of it.
    pub id: String,
    /// docker, podman, containerd, cri-o, lxc, systemd-nspawn.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runtime: Option<String>,
}

/// One parent in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub name: String,
    /// Executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
}

/// A process that holds the socket.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub name: String,
    /// Lowest descriptor number through which it holds the socket.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fd: Option<u32>,
}
