//! cgroups that a scenario makes for itself: processes are moved in, and all of it is removed again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Where hosts mount cgroup2: alone, or beside the older hierarchies.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// The older hierarchy that limits the number of processes.
const PIDS: &str = "/sys/fs/cgroup/pids";
/// How long killed processes may take until their group can be removed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cgroup. What still runs in it is killed, and it is removed, when dropped.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    /// Folders that were not there before, leaf first.
    made: Vec<PathBuf>,
    /// Where a controller was switched on that was off before.
    switched: Option<PathBuf>,
}

impl Group {
    /// A group of cgroup2 with this path below the root; `None` where cgroup2 is not mounted.
    ///
    /// # Errors
    /// It cannot be made, or exists.
    pub fn new(path: &str) -> Result<Option<Self>> {
        unified().map(|root| Self::make(&root, path)).transpose()
    }

    /// A group in which at most `max` processes may run; `None` where no hierarchy limits them.
    ///
    /// # Errors
    /// It cannot be made, or exists.
    pub fn with_pids(path: &str, max: u32) -> Result<Option<Self>> {
        let unified = unified().filter(|root| controls(root, "cgroup.controllers"));
        let old = Path::new(PIDS);
        let group = match unified {
            Some(root) => {
                let control = root.join("cgroup.subtree_control");
                let was_on = controls(&root, "cgroup.subtree_control");
                fs::write(&control, "+pids").context("cannot switch the pids controller on")?;
                let mut group = Self::make(&root, path)?;
                group.switched = (!was_on).then_some(control);
                group
            }
            None if old.join("cgroup.procs").exists() => Self::make(old, path)?,
            None => return Ok(None),
        };
        let limit = group.path.join("pids.max");
        fs::write(&limit, max.to_string())
            .with_context(|| format!("cannot write {}", limit.display()))?;
        Ok(Some(group))
    }

    /// Moves a process in. Its children will be born there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn take(&self, pid: u32) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("cannot move process {pid} to {}", self.path.display()))
    }

    /// How many processes are in it.
    ///
    /// # Errors
    /// It is gone.
    pub fn processes(&self) -> Result<usize> {
        Ok(self.pids()?.len())
    }

    /// How often a process was refused here because there were as many as there may be.
    ///
    /// # Errors
    /// It is gone, or nothing limits its processes.
    pub fn forks_refused(&self) -> Result<u64> {
        let text = fs::read_to_string(self.path.join("pids.events"))?;
        let refused = text.lines().find_map(|line| line.strip_prefix("max "));
        let refused = refused.context("pids.events does not count")?;
        Ok(refused.trim().parse()?)
    }

    fn make(root: &Path, path: &str) -> Result<Self> {
        let mut group = Self {
            path: root.join(path),
            made: Vec::new(),
            switched: None,
        };
        let mut folder = root.to_path_buf();
        for part in path.split('/') {
            folder.push(part);
            match fs::create_dir(&folder) {
                Ok(()) => group.made.insert(0, folder.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => bail!("cannot make {}: {error}", folder.display()),
            }
        }
        Ok(group)
    }

    fn pids(&self) -> Result<Vec<i32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills what is left in it, again and again: it may fork faster than it is killed once.
    fn clear(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(pids) = self.pids()
            && !pids.is_empty()
            && Instant::now() < deadline
        {
            // Absent before 5.14 and in the older hierarchy.
            if fs::write(self.path.join("cgroup.kill"), "1").is_err() {
                for pid in pids.into_iter().filter_map(Pid::from_raw) {
                    // Gone already, which is as good.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.clear();
        let deadline = Instant::now() + PATIENCE;
        for folder in &self.made {
            while let Err(error) = fs::remove_dir(folder)
                && error.kind() == io::ErrorKind::ResourceBusy
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if let Some(control) = &self.switched {
            // Somebody else may use it by now, which is theirs to say.
            let _ = fs::write(control, "-pids");
        }
    }
}

fn unified() -> Option<PathBuf> {
    UNIFIED
        .map(PathBuf::from)
        .into_iter()
        .find(|root| root.join("cgroup.controllers").exists())
}

fn controls(root: &Path, file: &str) -> bool {
    fs::read_to_string(root.join(file))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "pids"))
}
