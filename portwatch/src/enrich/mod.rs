//! Who a process is: the table that outlives processes, /proc, users, cgroups, packages, hashes.

mod bounded;
pub mod cgroup;
mod cgroup_map;
mod hash;
mod mounts;
mod package;
pub mod proc_fs;
pub mod proc_parse;
pub mod services;
pub mod table;
mod text_file;
pub mod users;
