//! Who a process is: the table that outlives processes, /proc, users, cgroups, packages, hashes.
//!
//! [`Enricher::resolve`] is the fast path of the pipeline: memory, and a few reads of /proc that cannot
//! wait for anybody. What may take longer is done by a small pool of threads; the answer completes the
//! event and warms the caches, so that the next event of the same executable has everything at once.

mod ancestry;
mod bounded;
pub mod cgroup;
mod cgroup_map;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hash;
mod image;
mod mounts;
mod package;
pub mod proc_fs;
pub mod proc_parse;
mod render;
mod seed;
pub mod services;
pub mod table;
mod text_file;
pub mod users;
mod worker;

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use self::bounded::Bounded;
use self::cgroup::Placement;
use self::cgroup_map::{CgroupMap, Place};
use self::hash::{ExeId, Hasher};
use self::package::Packages;
use self::proc_fs::{FileStamp, ProcFs};
use self::services::Services;
use self::table::{Limits, ProcessTable};
use self::users::{Name, Users};
use self::worker::{ExeFacts, Needs, Pool, Tools};
use crate::decode::record::{ExecSeen, ImageInfo, LifeSeen, ProcessKey, Who};
use crate::event::{Process, Protocol};
use crate::text::escape;
use crate::time::{BootNs, WallClock};

pub(crate) use self::image::KERNEL_THREAD;
pub use self::seed::SeedReport;
pub use self::worker::{Answer, Waits};

/// Most executables whose hash and package are remembered.
const FACTS_MAX: usize = 4_096;

/// Where to look, and how much to keep.
#[derive(Clone, Debug)]
pub struct EnrichConfig {
    /// Root of the host's file system: its /etc, package databases and executables.
    pub root: PathBuf,
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Where cgroups are mounted.
    pub cgroup: PathBuf,
    /// Bounds of the process table.
    pub table: Limits,
    /// Threads for look-ups that read files; arguments have one of their own.
    pub threads: usize,
    /// Slow look-ups that may wait; more are not made, and counted.
    pub queue: usize,
    /// Hash executables.
    pub hash: bool,
    /// Look up packages.
    pub package: bool,
    /// [`Enricher::on_exec`] is told of every new image. If not, a process that lives is read anew
    /// whenever it is resolved.
    pub execs_are_told: bool,
}

impl Default for EnrichConfig {
    fn default() -> Self {
        Self {
            root: "/".into(),
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            table: Limits::default(),
            threads: 2,
            queue: 1_024,
            hash: true,
            package: true,
            execs_are_told: true,
        }
    }
}

/// A process as far as it is known now.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Its part of the event.
    pub process: Process,
    /// What more will be known, when the answers arrive. Several resolutions may wait for the same one.
    pub waits: Waits,
}

/// Starts of one process that differ by less are the same: `/proc` has clock ticks.
const TICKS_NS: u64 = 20_000_000;

/// Counters for `portwatch status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrichStats {
    /// Processes in the table, living and dead.
    pub processes: usize,
    /// Memory of the table, in bytes.
    pub table_bytes: usize,
    /// Slow look-ups that wait for a thread.
    pub queue_depth: usize,
    /// Slow look-ups that were not made because too many waited.
    pub skipped: u64,
}

/// Turns what the kernel said of a task into all that is known of the process.
#[derive(Debug)]
pub struct Enricher {
    proc: ProcFs,
    table: ProcessTable,
    users: Users,
    services: Services,
    cgroups: CgroupMap,
    facts: Bounded<(FileStamp, u64), ExeFacts>,
    paths: RandomState,
    pool: Pool,
    wants_exe: bool,
    execs_are_told: bool,
}

impl Enricher {
    /// Starts the threads for slow look-ups. Every received [`Answer`] belongs into [`Self::complete`]
    /// or [`Self::absorb`].
    #[must_use]
    pub fn new(config: EnrichConfig) -> (Self, mpsc::Receiver<Answer>) {
        let proc = ProcFs::new(config.proc);
        let cgroups = CgroupMap::new(&config.cgroup);
        let etc = config.root.join("etc");
        let packages = || Mutex::new(Packages::new(config.root.clone()));
        let tools = Tools {
            proc: proc.clone(),
            root: config.root.clone(),
            cgroup2: cgroups.mount().to_path_buf(),
            hasher: config.hash.then(Hasher::new),
            packages: config.package.then(packages),
        };
        let (pool, answers) = Pool::start(tools, config.threads, config.queue);
        let enricher = Self {
            proc,
            table: ProcessTable::new(config.table),
            users: Users::new(&etc),
            services: Services::new(&etc),
            cgroups,
            facts: Bounded::new(FACTS_MAX),
            paths: RandomState::new(),
            pool,
            wants_exe: config.hash || config.package,
            execs_are_told: config.execs_are_told,
        };
        (enricher, answers)
    }

    /// Learns every process that runs already, in at most `limit`. Start the probes first, so that no
    /// process falls between.
    pub fn seed(&mut self, now: BootNs, limit: Duration) -> SeedReport {
        seed::seed(&mut self.table, &self.proc, now, limit)
    }

    /// A process replaced its image. Its cgroup is asked for now, because both may be gone when it
    /// next matters; once for each cgroup.
    pub fn on_exec(&mut self, exec: &ExecSeen) {
        self.table.on_exec(exec);
        if exec.task.cgroup_id > cgroup_map::ROOT_ID {
            let _ = self
                .cgroups
                .place(exec.task.key, exec.task.cgroup_id, &self.proc);
        }
    }

    /// Records of processes were lost: what is known of images is asked for again before it is told.
    pub fn on_loss(&mut self) {
        self.table.doubt();
    }

    /// A process was made.
    pub fn on_fork(&mut self, fork: &LifeSeen) {
        self.table.on_fork(fork);
    }

    /// A process ended.
    pub fn on_exit(&mut self, exit: &LifeSeen) {
        self.table.on_exit(exit);
    }

    /// The path of a cgroup below the mount of cgroup2, escaped, if one of its processes was met.
    pub fn cgroup_path(&mut self, id: u64) -> Option<String> {
        self.cgroups.path(id)
    }

    /// All that is known of a process without waiting, and what is still to come.
    pub fn resolve(&mut self, who: &Who, now: BootNs, clock: &WallClock) -> Resolution {
        let key = who.task.key;
        let found = self.image_of(who, now);
        self.table.touch(key);
        let mut process = render::process(&who.task, found.image.as_deref(), clock);
        process.unresolved = found.unresolved.map(str::to_owned);
        process.ancestors = self.ancestors(who, now);

        let mut needs = Needs::default();
        if let Some(image) = found.image.as_deref() {
            needs.exe = self.add_facts(who, image, &mut process);
            if image.exe.is_some() && image.args.is_none() && self.proc.same_process(key) {
                needs.args = Some(key);
            }
        }
        match self.users.user(who.task.uid, now) {
            Name::Known(name) => process.user = Some(name.to_string()),
            Name::None => {}
            Name::Ask => needs.user = Some(who.task.uid),
        }
        match self.users.group(who.task.gid, now) {
            Name::Known(name) => process.group = Some(name.to_string()),
            Name::None => {}
            Name::Ask => needs.group = Some(who.task.gid),
        }
        if !who.task.is_kthread {
            match self.cgroups.place(key, who.task.cgroup_id, &self.proc) {
                Place::Known(placement) => set_placement(&mut process, &placement),
                Place::Unknown => {}
                Place::Walk(id) => needs.cgroup = Some(id),
            }
        }
        let waits = self.pool.ask(key, needs);
        Resolution { process, waits }
    }

    /// All that is known without waiting of a process that was only counted, living or dead, and what is still to come.
    pub fn by_key(&mut self, key: ProcessKey, now: BootNs, clock: &WallClock) -> (Process, Waits) {
        let running = self.proc.who_from_proc(key.pid);
        let is_same = |who: &Who| who.task.key.start.0.abs_diff(key.start.0) < TICKS_NS;
        if let Some(who) = running.filter(is_same) {
            let resolution = self.resolve(&who, now, clock);
            return (resolution.process, resolution.waits);
        }
        let name = self.table.name(key).map(escape).unwrap_or_default();
        let exe = self.table.image(key).and_then(|image| image.exe.as_deref());
        let process = Process {
            pid: key.pid,
            name,
            exe: exe.map(escape),
            unresolved: Some("the process was gone before it could be read".to_owned()),
            ..Process::default()
        };
        (process, Waits::default())
    }

    /// Fills in what an answer found, and remembers it. `process` is one that waited for this answer.
    pub fn complete(&mut self, answer: &Answer, process: &mut Process) {
        self.absorb(answer);
        if let Some(facts) = &answer.exe {
            set_facts(process, facts);
        }
        if let Some((args, truncated)) = &answer.args
            && process.args.is_none()
        {
            render::set_args(process, args, *truncated);
        }
        if let Some(name) = &answer.user {
            process.user = Some(name.to_string());
        }
        if let Some(name) = &answer.group {
            process.group = Some(name.to_string());
        }
        if let Some(placement) = &answer.placement {
            set_placement(process, placement);
        }
    }

    /// Remembers what an answer found, when nobody waits for it any more.
    pub fn absorb(&mut self, answer: &Answer) {
        let now = BootNs::now();
        let needs = &answer.needs;
        if let (Some(exe), Some(facts)) = (&needs.exe, &answer.exe) {
            let path = self.paths.hash_one(&exe.path);
            self.facts.insert((facts.stamp, path), facts.clone());
        }
        if let (Some(key), Some((args, truncated))) = (needs.args, &answer.args) {
            self.table.learn_args(key, args, *truncated);
        }
        if let Some(uid) = needs.user {
            self.users.learn_user(uid, answer.user.clone(), now);
        }
        if let Some(gid) = needs.group {
            self.users.learn_group(gid, answer.group.clone(), now);
        }
        if let Some(id) = needs.cgroup {
            self.cgroups.learn(id, answer.placement.clone());
        }
    }

    /// Goes round look-ups that hang: a process may give something to read that never comes.
    pub fn relieve(&mut self, now: BootNs) {
        self.pool.relieve(now);
    }

    /// When [`Self::relieve`] is to be called next; `None` while no look-up waits.
    #[must_use]
    pub fn relief_due(&self) -> Option<BootNs> {
        self.pool.relief_due()
    }

    /// The name of the service at a port.
    pub fn service(&mut self, port: u16, protocol: Protocol, now: BootNs) -> Option<Arc<str>> {
        self.services.name(port, protocol, now)
    }

    /// The process table, for who holds what.
    #[must_use]
    pub const fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> EnrichStats {
        EnrichStats {
            processes: self.table.len(),
            table_bytes: self.table.bytes(),
            queue_depth: self.pool.depth(),
            skipped: self.pool.skipped(),
        }
    }

    /// Hash and package, if the file that the process runs is exactly the one they were found for;
    /// else which file to ask for.
    fn add_facts(&mut self, who: &Who, image: &ImageInfo, process: &mut Process) -> Option<ExeId> {
        let path = image.exe.as_deref().filter(|_| self.wants_exe)?;
        if let Some(stamp) = self.proc.exe_stamp(who.task.key, image.exe_inode)
            && let Some(facts) = self.facts.get(&(stamp, self.paths.hash_one(path)))
        {
            set_facts(process, facts);
            return None;
        }
        Some(ExeId {
            path: path.into(),
            dev: image.exe_dev,
            inode: image.exe_inode,
        })
    }
}

fn set_facts(process: &mut Process, facts: &ExeFacts) {
    process.sha256 = facts.sha256.as_deref().map(str::to_owned);
    process.package = facts.package.as_deref().map(str::to_owned);
}

fn set_placement(process: &mut Process, placement: &Placement) {
    process.unit.clone_from(&placement.unit);
    process.container.clone_from(&placement.container);
}

#[cfg(test)]
mod tests;
