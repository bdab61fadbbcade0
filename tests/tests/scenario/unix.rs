//! Unix sockets: paths, relative ones too, and abstract names of any bytes.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use portwatch_tests::address::{Address, hex};
use portwatch_tests::harness::{Actor, Capability, Context, Kind, Sees};
use serde_json::{Value, json};

use super::scenarios;

scenarios!("unix":
    stream_path, seqpacket_path, dgram_path, relative_path, abstract_bytes, autobind, longest_path,
    longest_abstract, opened_as_a_path,
);

fn stream_path(context: &Context) -> Result<()> {
    path(context, Kind::UNIX_STREAM)
}

fn seqpacket_path(context: &Context) -> Result<()> {
    path(context, Kind::UNIX_SEQPACKET)
}

fn dgram_path(context: &Context) -> Result<()> {
    path(context, Kind::UNIX_DGRAM)
}

fn path(context: &Context, kind: Kind) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().canonicalize()?.join("socket");
    let socket = json!({
        "path": text(&path)?, "path_as_bound": null, "abstract": null, "port": null,
        "exposure": "loopback",
    });
    life(
        context,
        kind,
        &format!("unix-{}", kind.kind),
        &Address::path(&path),
        socket,
    )
}

/// A relative name says nothing without the directory that it is relative to.
fn relative_path(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    std::fs::create_dir(folder.join("run"))?;
    let mut actor = Actor::start("unix-relative")?;
    actor.chdir(&folder)?;
    let sock = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&sock, &Address::path(Path::new("run/app.sock")))?;
    actor.listen(&sock, 1)?;
    let socket = json!({
        "path": text(&folder.join("run/app.sock"))?,
        "path_as_bound": "run/app.sock",
    });
    watch.whole_life(&mut actor, &sock, socket)
}

/// NULs inside, invalid UTF-8, control bytes and the backslash: each byte told as `\xNN`.
fn abstract_bytes(context: &Context) -> Result<()> {
    let unique = format!("pw-{}", std::process::id());
    let name = [unique.as_bytes(), b"\0in\x1b[2J\xff\\"].concat();
    let socket = json!({"abstract": format!(r"{unique}\x00in\x1b[2J\xff\x5c"), "path": null});
    life(
        context,
        Kind::UNIX_STREAM,
        "unix-abstract",
        &Address::abstract_name(&name),
        socket,
    )
}

/// Binding to the family alone makes the kernel choose a name, known only after the call.
fn autobind(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("unix-autobind")?;
    let sock = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&sock, &Address::Unix(Vec::new()))?;
    actor.listen(&sock, 1)?;
    let Address::Unix(chosen) = actor.name(&sock)? else {
        bail!("not a unix name")
    };
    let name = std::str::from_utf8(chosen.get(1..).context("no name was chosen")?)?;
    anyhow::ensure!(
        name.len() == 5,
        "the trigger went wrong: chosen name {name:?}"
    );
    watch.whole_life(&mut actor, &sock, json!({"abstract": name, "path": null}))
}

/// 108 bytes leave no room for a terminating NUL; the kernel takes them.
fn longest_path(context: &Context) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut path = text(&folder.path().canonicalize()?)?.to_owned() + "/";
    path.extend(std::iter::repeat_n(
        'n',
        108_usize.saturating_sub(path.len()),
    ));
    anyhow::ensure!(
        path.len() == 108,
        "the temporary folder's name is too long: {path}"
    );
    let address = Address::path(Path::new(&path));
    life(
        context,
        Kind::UNIX_DGRAM,
        "unix-108",
        &address,
        json!({"path": path}),
    )
}

fn longest_abstract(context: &Context) -> Result<()> {
    let mut name = format!("pw-{}-", std::process::id());
    name.extend(std::iter::repeat_n(
        'a',
        107_usize.saturating_sub(name.len()),
    ));
    let address = Address::abstract_name(name.as_bytes());
    life(
        context,
        Kind::UNIX_SEQPACKET,
        "unix-107",
        &address,
        json!({"abstract": name}),
    )
}

/// `O_PATH` opens the name in the file system: its inode is a socket's by mode, but no socket. Who holds
/// that is no holder, and nobody listens on it.
fn opened_as_a_path(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().canonicalize()?.join("socket");
    let mut actor = Actor::start("unix-o-path")?;
    let sock = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&sock, &Address::path(&path))?;
    actor.listen(&sock, 1)?;
    let opened = watch.opened(&actor, &sock, json!({"path": text(&path)?}))?;

    let mut other = Actor::start("unix-o-path-other")?;
    let answer = other.call(&format!(
        "open-path p {}",
        hex(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
    ))?;
    let inode: u64 = answer.number("inode")?;
    anyhow::ensure!(inode != sock.inode, "the trigger went wrong: one inode");
    for call in ["listen p 1", "bind p unix:"] {
        let error = other.refused(call)?;
        anyhow::ensure!(
            error == "errno-9" || error == "errno-88",
            "the trigger went wrong: {call} gives {error}"
        );
    }
    // A fresh portwatch looks at every descriptor there is, the path's too.
    let fresh = context.fresh(&[])?;
    let present = fresh.opening_of(0, &actor, &sock, Sees::ByReconcile)?;
    anyhow::ensure!(
        present.has_pid(actor.pid) && !present.owner_pids().contains(&u64::from(other.pid)),
        "only {} holds it, not {}: {}",
        actor.pid,
        other.pid,
        present.value()
    );
    for watch in [watch, &fresh] {
        watch.absent(
            "event about the path's holder",
            Capability::Unix,
            0,
            |event| {
                event.has_pid(other.pid)
                    || (event.has_inode(inode)
                        && event.text("socket.path") == text(&path).unwrap_or(""))
            },
        )?;
    }
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn life(
    context: &Context,
    kind: Kind,
    token: &str,
    address: &Address,
    socket: Value,
) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start(token)?;
    let sock = actor.socket(kind)?;
    actor.bind(&sock, address)?;
    if kind != Kind::UNIX_DGRAM {
        actor.listen(&sock, 4)?;
    }
    watch.whole_life(&mut actor, &sock, socket)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary path that is no UTF-8")
}
