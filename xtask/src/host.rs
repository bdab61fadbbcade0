//! The machine a chore runs on: where things are, what is installed, how to install the rest.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The repository's root. cargo says at run time where the sources are, so a copied target
/// directory does not lead back to where it was built.
pub(crate) fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = xtask.join("..");
    root.canonicalize()
        .with_context(|| format!("cannot find the repository at {}", root.display()))
}

/// A directory for what is too big or too slow to fetch twice, outside the repository.
pub(crate) fn cache(what: &str) -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => bail!("neither XDG_CACHE_HOME nor HOME is set: nowhere to keep {what}"),
    };
    let dir = base.join("portwatch").join(what);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The executable that `name` resolves to on `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|dir| dir.join(name))
        .find(|file| executable(file))
}

fn executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this process may install packages and load probes.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs Debian packages, or says in one sentence what is missing and how to get it.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    let how =
        format!("{why} needs the Debian packages {list}; run `apt-get install {list}` as root");
    if !is_root() || find("apt-get").is_none() {
        bail!("{how}");
    }
    println!("installing {list}");
    // The lists may be stale without harm; a failing update must not hide an install that works.
    let _ = apt(&["update", "-qq"]).status();
    let mut install = apt(&["install", "-qq", "-y", "--no-install-recommends"]);
    install.args(packages);
    run(&mut install).context(how)
}

/// Where [`unpack`] puts programs, as the harness of the tests knows.
pub(crate) fn tools() -> Result<PathBuf> {
    cache("tools")
}

/// Unpacks Debian packages into a folder of ours, where their programs are without their services; and the libraries that they
/// need and this host does not have.
pub(crate) fn unpack(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    let how = format!("{why} needs the programs of the Debian packages {list}");
    if find("apt-get").is_none() || find("dpkg-deb").is_none() {
        bail!("{how}");
    }
    println!("unpacking {list}");
    let (tools, debs) = (tools()?, cache("debs")?);
    let download = |packages: &[String]| {
        // As root apt would fetch as `_apt`, who cannot write below somebody's home.
        let mut download = apt(&["download", "-qq", "-o", "APT::Sandbox::User="]);
        download.args(packages).current_dir(&debs);
        run(&mut download)
    };
    let mut wanted: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
    if download(&wanted).is_err() {
        // The lists may be older than the archive.
        run(&mut apt(&["update", "-qq"])).context(how.clone())?;
        download(&wanted).context(how.clone())?;
    }
    loop {
        let more = missing_libraries(&debs, &wanted)?;
        if more.is_empty() {
            break;
        }
        download(&more).context(how.clone())?;
        wanted.extend(more);
    }
    for entry in std::fs::read_dir(&debs).context("cannot list the downloaded packages")? {
        let deb = entry.context("cannot list the downloaded packages")?.path();
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tools))?;
        std::fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    }
    Ok(())
}

/// Libraries that downloaded packages depend on, and that are neither installed nor wanted yet. Those of JavaScript are for
/// pages that no test looks at.
fn missing_libraries(debs: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(debs).context("cannot list the downloaded packages")? {
        let deb = entry.context("cannot list the downloaded packages")?.path();
        let depends = output(Command::new("dpkg-deb").arg("-f").arg(&deb).arg("Depends"))?;
        for dependency in depends.split(',') {
            let name = dependency.trim_start().split([' ', ':', '\n']).next();
            let name = name.unwrap_or_default().to_owned();
            let is_library = name.starts_with("lib") && !name.starts_with("libjs-");
            if is_library
                && !wanted.contains(&name)
                && !missing.contains(&name)
                && !installed(&name)
            {
                missing.push(name);
            }
        }
    }
    Ok(missing)
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status}", package]);
    let told = query.stderr(Stdio::null()).output();
    told.is_ok_and(|told| told.stdout.starts_with(b"installed"))
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    command
}

/// Runs a command to its end; an exit status other than 0 is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}`: not text", line(command)))
}

/// The command as one would type it, for messages.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
