//! A cgroup path says which systemd unit and which container a process belongs to.

use crate::event::Container;
use crate::text::escape;

/// Most of a path that is looked at, in bytes.
const PATH_MAX: usize = 4_096;
/// Longest unit name that systemd allows, in bytes.
const UNIT_MAX: usize = 255;
/// Hexadecimal digits of a container id.
const ID_LEN: usize = 64;

/// Where a process is placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The path itself, escaped.
    pub path: String,
    /// systemd unit, as systemd prints it (escapes such as `\x2d` in place).
    pub unit: Option<String>,
    /// Innermost container.
    pub container: Option<Container>,
}

/// Reads a cgroup path, as in /proc/PID/cgroup.
#[must_use]
pub fn parse(path: &[u8]) -> Placement {
    let path = path.get(..PATH_MAX).unwrap_or(path);
    let escaped = escape(path);
    // A group that its owner named in bad UTF-8 must not hide the unit above it.
    let path = String::from_utf8_lossy(path);
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "..")
        .map(unescape_cgroup)
        .collect();
    Placement {
        path: escaped,
        unit: unit(&parts),
        container: container(&parts),
    }
}

/// systemd's own rule: behind the slices stands the unit. Below that the unit may make what groups it
/// likes (delegation), except that a user's manager holds units again by the same rule. To take the
/// innermost name that looks like a unit would let any user pose as `sshd.service`.
fn unit(parts: &[&str]) -> Option<String> {
    let (unit, below) = first_unit(parts)?;
    if unit.starts_with("user@")
        && unit.ends_with(".service")
        && let Some((inner, _)) = first_unit(below)
    {
        return Some(inner.to_owned());
    }
    Some(unit.to_owned())
}

fn first_unit<'a, 'p>(parts: &'p [&'a str]) -> Option<(&'a str, &'p [&'a str])> {
    let slices = parts
        .iter()
        .take_while(|part| part.ends_with(".slice"))
        .count();
    let (unit, below) = parts.get(slices..)?.split_first()?;
    is_unit(unit).then_some((unit, below))
}

/// A valid unit name is printable ASCII; its backslashes are systemd's own.
fn is_unit(name: &str) -> bool {
    let stem = [".service", ".socket", ".scope"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    let valid = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    stem.is_some_and(|stem| !stem.is_empty() && name.len() <= UNIT_MAX && stem.bytes().all(valid))
}

/// systemd puts `_` before names that could be mistaken for cgroup's own files.
fn unescape_cgroup(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

/// The innermost container: containers nest, and the process sees only the last.
fn container(parts: &[&str]) -> Option<Container> {
    (0..parts.len())
        .rev()
        .find_map(|at| {
            let part = parts.get(at)?;
            let above = parts.get(..at).unwrap_or_default();
            by_prefix(part)
                .or_else(|| by_parent(part, above))
                .or_else(|| machine(part, above))
        })
        .map(|(id, runtime)| Container {
            id: escape(id.as_bytes()),
            runtime: Some(runtime.to_owned()),
        })
}

/// Names that say all by themselves.
fn by_prefix(part: &str) -> Option<(String, &'static str)> {
    const PREFIXES: [(&str, &str); 6] = [
        ("docker-", "docker"),
        ("libpod-payload-", "podman"),
        ("libpod-", "podman"),
        ("cri-containerd-", "containerd"),
        ("crio-", "cri-o"),
        ("nerdctl-", "containerd"),
    ];
    if let Some(name) = part.strip_prefix("lxc.payload.").filter(|n| !n.is_empty()) {
        return Some((name.to_owned(), "lxc"));
    }
    // `kubepods-…-pod1.slice:cri-containerd:ID`: a systemd name given to the cgroupfs driver.
    if let Some((rest, id)) = part.rsplit_once(':')
        && is_id(id)
        && let Some((_, prefix)) = rest.rsplit_once(':')
    {
        let dashed = |(p, _): &&(&str, &str)| p.strip_suffix('-') == Some(prefix);
        return PREFIXES
            .iter()
            .find(dashed)
            .map(|(_, runtime)| (id.to_owned(), *runtime));
    }
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    PREFIXES.iter().find_map(|(prefix, runtime)| {
        let id = stem.strip_prefix(prefix).filter(|id| is_id(id))?;
        Some((id.to_owned(), *runtime))
    })
}

/// Bare ids, named by the group they lie in.
fn by_parent(part: &str, above: &[&str]) -> Option<(String, &'static str)> {
    let parent = *above.last()?;
    match parent {
        "lxc" | "lxc.payload" => Some((part.to_owned(), "lxc")),
        "docker" if is_id(part) => Some((part.to_owned(), "docker")),
        "libpod_parent" if is_id(part) => Some((part.to_owned(), "podman")),
        // The cgroupfs driver does not say which runtime; containerd is what uses bare ids.
        _ if is_id(part) && above.iter().any(|p| p.starts_with("kubepods")) => {
            Some((part.to_owned(), "containerd"))
        }
        _ => None,
    }
}

/// What systemd-machined registered: `machine-NAME.scope` and `systemd-nspawn@NAME.service`, both
/// with a unit-escaped name. libvirt registers its virtual machines there too, which are no containers.
fn machine(part: &str, above: &[&str]) -> Option<(String, &'static str)> {
    if above.last() != Some(&"machine.slice") {
        return None;
    }
    let scope = part
        .strip_prefix("machine-")
        .and_then(|name| name.strip_suffix(".scope"));
    let service = || {
        part.strip_prefix("systemd-nspawn@")
            .and_then(|name| name.strip_suffix(".service"))
    };
    let name = unescape_unit(scope.or_else(service)?);
    if name.is_empty() || name.starts_with("qemu-") {
        return None;
    }
    let runtime = if name.starts_with("lxc-") {
        "lxc"
    } else {
        "systemd-nspawn"
    };
    Some((name, runtime))
}

/// systemd's unit name escapes: `\xNN` is that byte (only ASCII is of interest in machine names).
fn unescape_unit(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::parse;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const ID2: &str = "ffff456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn unit(path: &str) -> Option<String> {
        parse(path.as_bytes()).unit
    }

    fn container(path: &str) -> Option<(String, String)> {
        let path = path.replace("{id}", ID).replace("{id2}", ID2);
        let container = parse(path.as_bytes()).container?;
        Some((container.id, container.runtime?))
    }

    #[test]
    fn units() {
        let table = [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/init.scope", Some("init.scope")),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
            ),
            (
                r"/system.slice/foo\x2dbar.service",
                Some(r"foo\x2dbar.service"),
            ),
            (
                "/user.slice/user-1000.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service",
                Some("foo.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.slice/x.scope",
                Some("x.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                Some("init.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service",
                Some("user@1000.service"),
            ),
            // Delegated groups name themselves as they like.
            (
                "/system.slice/ci.service/evil/sshd.service",
                Some("ci.service"),
            ),
            ("/system.slice/ci.service/sshd.service", Some("ci.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/evil/sshd.service",
                Some("user@1000.service"),
            ),
            ("/system.slice/_tasks.service", Some("tasks.service")),
            ("/system.slice/ssh.socket", Some("ssh.socket")),
            ("/../../system.slice/a.service", Some("a.service")),
            ("/docker/0123", None),
            ("/system.slice", None),
            ("/system.slice/.service", None),
            ("/system.slice/a b.service", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in table {
            assert_eq!(unit(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_group_below_cannot_hide_the_unit() {
        let long = format!("/system.slice/a.service/{}", "x".repeat(9_000));
        for path in [&b"/system.slice/a.service/\xff\xfe"[..], long.as_bytes()] {
            assert_eq!(parse(path).unit.as_deref(), Some("a.service"));
        }
    }

    #[test]
    fn containers() {
        let table = [
            ("/docker/{id}", Some((ID, "docker"))),
            ("/system.slice/docker-{id}.scope", Some((ID, "docker"))),
            (
                "/system.slice/docker-{id}.scope/system.slice/nginx.service",
                Some((ID, "docker")),
            ),
            ("/machine.slice/libpod-{id}.scope", Some((ID, "podman"))),
            (
                "/machine.slice/libpod-{id}.scope/container",
                Some((ID, "podman")),
            ),
            (
                "/user.slice/user-1.slice/user@1.service/user.slice/libpod-{id}.scope",
                Some((ID, "podman")),
            ),
            ("/machine.slice/libpod-conmon-{id}.scope", None),
            ("/libpod_parent/libpod-{id}", Some((ID, "podman"))),
            (
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope",
                Some((ID, "containerd")),
            ),
            ("/kubepods/burstable/pod1-2/{id}", Some((ID, "containerd"))),
            (
                "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}",
                Some((ID, "containerd")),
            ),
            (
                "/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope",
                Some((ID, "cri-o")),
            ),
            (
                "/kubepods.slice/kubepods-pod1.slice/crio-conmon-{id}.scope",
                None,
            ),
            ("/lxc.payload.web", Some(("web", "lxc"))),
            (
                "/lxc.payload.web/system.slice/nginx.service",
                Some(("web", "lxc")),
            ),
            ("/lxc/web/init.scope", Some(("web", "lxc"))),
            ("/lxc.monitor.web", None),
            (
                "/machine.slice/machine-web.scope/payload",
                Some(("web", "systemd-nspawn")),
            ),
            (
                r"/machine.slice/machine-my\x2dbox.scope",
                Some(("my-box", "systemd-nspawn")),
            ),
            (
                "/machine.slice/systemd-nspawn@web.service/payload",
                Some(("web", "systemd-nspawn")),
            ),
            (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope", None),
            // Nested: the innermost.
            ("/docker/{id}/docker/{id2}", Some((ID2, "docker"))),
            (
                "/docker/{id}/kubelet/kubepods/pod1/cri-containerd-{id2}.scope",
                Some((ID2, "containerd")),
            ),
            ("/docker/0123", None),
            ("/system.slice/docker.service", None),
            ("/user.slice/machine-x.scope", None),
        ];
        for (path, expected) in table {
            let expected = expected.map(|(id, runtime)| (id.to_owned(), runtime.to_owned()));
            assert_eq!(container(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nothing_unprintable_comes_out(
            path in r"(/(machine\.slice|lxc|lxc\.payload\.[^/]{1,5}|machine-[^/]{1,8}\.scope|[^/]{1,8}\.service)){1,4}"
        ) {
            let seen = parse(path.as_bytes());
            let texts = seen.unit.into_iter().chain(seen.container.map(|c| c.id));
            assert!(texts.into_iter().all(|text| !text.chars().any(char::is_control)));
        }
    }
}
