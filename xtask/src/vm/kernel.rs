//! Debian's cloud kernels, fetched once into a cache with apt, without touching the system's apt.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::apt::{PrivateApt, unpack};
use super::arch::Arch;
use super::mirror;
use crate::host;

/// A kernel that can be booted.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` will say.
    pub(crate) release: String,
    /// The compressed image.
    pub(crate) image: PathBuf,
    /// `…/lib/modules/<release>`, where there is one.
    pub(crate) modules: Option<PathBuf>,
}

/// Turns what the user asked for (`6.1`, or the path of an image) into a kernel.
pub(crate) fn resolve(wanted: &str, arch: Arch) -> Result<Kernel> {
    if wanted.contains('/') {
        return from_image(Path::new(wanted));
    }
    if !is_series(wanted) {
        bail!("--kernel {wanted}: give a series such as 6.1, or the path of a kernel image");
    }
    let home = host::cache(&match arch {
        Arch::Amd64 => format!("kernels/{wanted}"),
        Arch::Arm64 => format!("kernels/{}-{wanted}", arch.debian()),
    })?;
    let tree = home.join("tree");
    if let Some(kernel) = find(&tree)? {
        return Ok(kernel);
    }
    fetch(wanted, arch, &home, &tree)?;
    find(&tree)?.with_context(|| {
        format!(
            "the packages of kernel {wanted} hold no image; delete {}",
            home.display()
        )
    })
}

/// `6.1` and the like.
pub(crate) fn is_series(wanted: &str) -> bool {
    let numbers = || wanted.split('.').map(str::parse::<u16>);
    numbers().count() == 2 && numbers().all(|number| number.is_ok())
}

/// The Debian suite that carries a series. Whatever no release shipped is looked for in backports.
fn suite(series: &str) -> &'static str {
    match series {
        "5.10" => "bullseye",
        "6.1" => "bookworm",
        "6.12" => "trixie",
        _ => "trixie-backports",
    }
}

fn from_image(image: &Path) -> Result<Kernel> {
    let image = image
        .canonicalize()
        .with_context(|| format!("--kernel {}: no such image", image.display()))?;
    let name = image
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let release = name.strip_prefix("vmlinuz-").unwrap_or(name).to_owned();
    // /boot/vmlinuz-X goes with /lib/modules/X.
    let modules = image
        .ancestors()
        .nth(2)
        .map(|root| root.join("lib/modules").join(&release));
    Ok(Kernel {
        release,
        image,
        modules: modules.filter(|modules| modules.is_dir()),
    })
}

/// The kernel in an extracted tree: up to 6.18 in /boot, later beside its modules.
fn find(tree: &Path) -> Result<Option<Kernel>> {
    for dir in ["lib/modules", "usr/lib/modules"] {
        let Ok(entries) = fs::read_dir(tree.join(dir)) else {
            continue;
        };
        for entry in entries {
            let modules = entry.with_context(|| format!("cannot list {dir}"))?.path();
            let release = modules
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let images = [
                tree.join("boot").join(format!("vmlinuz-{release}")),
                modules.join("vmlinuz"),
            ];
            if let Some(image) = images.into_iter().find(|image| image.exists()) {
                let release = release.to_owned();
                return Ok(Some(Kernel {
                    release,
                    image,
                    modules: Some(modules),
                }));
            }
        }
    }
    Ok(None)
}

fn fetch(series: &str, arch: Arch, home: &Path, tree: &Path) -> Result<()> {
    for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
        if host::find(tool).is_none() {
            bail!(
                "fetching kernel {series} needs {tool}; elsewhere than on Debian give --kernel PATH"
            );
        }
    }
    let suite = suite(series);
    println!(
        "fetching kernel {series} from Debian {suite} into {}",
        home.display()
    );
    let apt = PrivateApt::new(home, &[(&mirror::debian()?, suite)], arch)?;
    host::run(apt.command("apt-get").args(["-qq", "update"])).with_context(|| {
        format!(
            "cannot read Debian {suite}; if apt names a missing key, install debian-archive-keyring \
             of that release, or give --kernel PATH"
        )
    })?;
    let names = host::output(apt.command("apt-cache").args([
        "search",
        "--names-only",
        &format!("^linux-.*-cloud-{}", arch.debian()),
    ]))?;
    let names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let Some(packages) = choose(series, arch, &names) else {
        bail!("Debian {suite} has no cloud kernel {series}; give --kernel PATH");
    };
    let debs = home.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
    host::run(
        apt.command("apt-get")
            .args(["-qq", "download"])
            .args(&packages)
            .current_dir(&debs),
    )
    .with_context(|| format!("cannot download {}", packages.join(" ")))?;
    unpack(&debs, tree)
}

/// The packages of the newest release of a series: the image, and its modules where Debian packs
/// them apart. An unsigned image is preferred, because its package depends on nothing else.
fn choose(series: &str, arch: Arch, names: &[&str]) -> Option<Vec<String>> {
    let flavour = format!("-cloud-{}", arch.debian());
    let series = format!("{series}.");
    let release = |name: &str| {
        let rest = name
            .strip_prefix("linux-image-")
            .or(name.strip_prefix("linux-binary-"))?;
        let (release, _) = rest
            .strip_suffix("-unsigned")
            .unwrap_or(rest)
            .split_once(&flavour)?;
        release.starts_with(&series).then(|| release.to_owned())
    };
    let newest = names
        .iter()
        .filter_map(|name| release(name))
        .max_by(|a, b| by_version(a, b))?;
    let image = [
        format!("linux-binary-{newest}{flavour}"),
        format!("linux-image-{newest}{flavour}-unsigned"),
        format!("linux-image-{newest}{flavour}"),
    ];
    let modules = format!("linux-modules-{newest}{flavour}");
    let exists = |name: &String| names.contains(&name.as_str());
    let image = image.into_iter().find(exists)?;
    Some([image, modules].into_iter().filter(exists).collect())
}

/// Orders `6.1.0-47` and `6.1.0-50`, `7.2.9+deb13` and `7.2.12+deb13` by their numbers.
fn by_version(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter_map(|run| run.parse().ok())
            .collect()
    };
    numbers(a).cmp(&numbers(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_the_series_is_chosen() {
        let names = [
            "linux-image-6.1.0-47-cloud-amd64-unsigned",
            "linux-image-6.1.0-50-cloud-amd64-dbg",
            "linux-image-6.1.0-9-cloud-amd64-unsigned",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-image-6.12.94+deb13-cloud-amd64-unsigned",
            "linux-image-cloud-amd64",
        ];
        assert_eq!(
            choose("6.1", Arch::Amd64, &names),
            Some(vec!["linux-image-6.1.0-50-cloud-amd64-unsigned".to_owned()])
        );
        assert_eq!(choose("6.6", Arch::Amd64, &names), None);
    }

    #[test]
    fn an_image_that_is_packed_apart_brings_its_modules() {
        let names = [
            "linux-base-7.2.12+deb13-cloud-amd64",
            "linux-binary-7.2.9+deb13-cloud-amd64",
            "linux-binary-7.2.12+deb13-cloud-amd64",
            "linux-binary-unsigned-7.2.12+deb13-cloud-amd64",
            "linux-image-7.2.12+deb13-cloud-amd64",
            "linux-modules-7.2.12+deb13-cloud-amd64",
        ];
        assert_eq!(
            choose("7.2", Arch::Amd64, &names),
            Some(vec![
                "linux-binary-7.2.12+deb13-cloud-amd64".to_owned(),
                "linux-modules-7.2.12+deb13-cloud-amd64".to_owned(),
            ])
        );
    }

    #[test]
    fn a_kernel_is_a_series_or_a_path() {
        assert!(
            resolve("latest", Arch::Amd64)
                .unwrap_err()
                .to_string()
                .contains("such as 6.1")
        );
        assert!(
            resolve("./no-such-image", Arch::Amd64)
                .unwrap_err()
                .to_string()
                .contains("no such image")
        );
    }
}
