//! Nothing outlives the chore: a cgroup holds all it starts, a folder all it writes, and a warden beside
//! it ends both, however the chore ends (done, failed, Ctrl-C, killed).

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Waits for the end of its input, which is the end of the chore; then kills whatever is in the cgroup
/// `$1`, until nothing is, and removes the cgroup and the folder `$2`.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
while pids=$(cat "$1/cgroup.procs") && [ -n "$pids" ]; do
    kill -9 $pids 2>/dev/null
    sleep 0.05
done
tries=100
while ! rmdir "$1" 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do
    sleep 0.05
done
rm -rf -- "$2"
"#;

/// The cgroup and the folder; both are gone when this is.
#[derive(Debug)]
pub(crate) struct Warden {
    script: Child,
    home: PathBuf,
    folder: PathBuf,
}

impl Warden {
    /// Moves this process, and so all that it starts from now on, into a cgroup of its own.
    pub(crate) fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mounts")?;
        let root = cgroup2(&mounts).context("benchmarks need cgroup2, and none is mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("cannot read own cgroup")?;
        let home = root.join(unified(&own).trim_start_matches('/'));
        let name = format!("portwatch-bench-{}", std::process::id());
        let group = root.join(&name);
        fs::create_dir(&group)
            .with_context(|| format!("cannot make the cgroup {}; be root", group.display()))?;
        let folder = std::env::temp_dir().join(&name);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        let script = made.and_then(|()| {
            Command::new("sh")
                .args(["-c", SCRIPT, "warden"])
                .args([&group, &folder])
                .stdin(Stdio::piped())
                .process_group(0)
                .spawn()
        });
        let script = match script {
            Ok(script) => script,
            Err(error) => {
                // Both are empty as yet.
                let _ = (fs::remove_dir(&group), fs::remove_dir(&folder));
                return Err(error).context("cannot start the warden");
            }
        };
        let warden = Self {
            script,
            home,
            folder,
        };
        enter(&group)?;
        Ok(warden)
    }

    /// The folder, removed at the end.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.home) {
            // The warden would kill us with the rest: then it must not be waited for.
            eprintln!("error: {error:#}");
            return;
        }
        drop(self.script.stdin.take());
        // It has nobody left to tell.
        let _ = self.script.wait();
    }
}

fn enter(group: &Path) -> Result<()> {
    let procs = group.join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string())
        .with_context(|| format!("cannot enter the cgroup by {}", procs.display()))
}

/// Where the unified hierarchy is mounted, by `/proc/self/mountinfo`. Pure.
fn cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let place = mount.split(' ').nth(4)?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| PathBuf::from(place))
    })
}

/// This process's place in the unified hierarchy, by `/proc/self/cgroup`. Pure.
fn unified(cgroups: &str) -> &str {
    let place = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    place.unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_in_both_set_ups() {
        let hybrid = "30 20 0:5 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      31 20 0:6 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(
            cgroup2(hybrid),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        let plain = "31 20 0:6 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2(plain), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(cgroup2("30 20 0:5 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn the_own_place_is_the_unified_one() {
        let cgroups = "4:memory:/a\n0::/user.slice/session-1.scope\n";
        assert_eq!(unified(cgroups), "/user.slice/session-1.scope");
        assert_eq!(unified("4:memory:/a\n"), "/");
    }
}
