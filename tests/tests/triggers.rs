//! The triggers themselves, held against `/proc/net`: a scenario proves nothing if its trigger does not
//! do what it says. Needs no portwatch; needs root for packet and raw sockets, namespaces and users.

use std::fs;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::address::{Address, hex};
use portwatch_tests::harness::trigger::Launch;
use portwatch_tests::harness::{Actor, Kind, Sock};
use portwatch_tests::sys::uring;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// The line of `/proc/PID/net/TABLE` that has this inode among its words.
fn row(pid: u32, table: &str, inode: u64) -> Result<Option<String>> {
    let all = fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
    let inode = inode.to_string();
    Ok(all
        .lines()
        .find(|line| line.split_whitespace().any(|word| word == inode))
        .map(str::to_owned))
}

/// Word of a row.
fn word(row: &str, at: usize) -> &str {
    row.split_whitespace().nth(at).unwrap_or_default()
}

fn must(pid: u32, table: &str, inode: u64) -> Result<String> {
    row(pid, table, inode)?.with_context(|| format!("socket {inode} is not in {table}"))
}

fn is_listening(actor: &Actor, table: &str, sock: &Sock, port: u16) -> Result<()> {
    let row = must(actor.pid, table, sock.inode)?;
    let local = format!(":{port:04X}");
    ensure!(
        word(&row, 1).ends_with(&local) && word(&row, 3) == "0A",
        "not on {port}: {row}"
    );
    Ok(())
}

/// Says so where a test cannot run.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn tcp_listens_where_it_says() -> Result<()> {
    let mut actor = Actor::start("t")?;
    let v4 = actor.listener(Kind::TCP4, "127.0.0.1:0", 7)?;
    let port = actor.port(&v4)?;
    is_listening(&actor, "tcp", &v4, port)?;
    let mapped = actor.listener(Kind::TCP6, "[::ffff:127.0.0.1]:0", 7)?;
    let port = actor.port(&mapped)?;
    is_listening(&actor, "tcp6", &mapped, port)?;
    let unbound = actor.socket(Kind::TCP4)?;
    actor.listen(&unbound, 3)?;
    let port = actor.port(&unbound)?;
    ensure!(port != 0);
    is_listening(&actor, "tcp", &unbound, port)?;
    ensure!(actor.cookie(&v4)? != 0);
    let target = fs::read_link(format!("/proc/{}/fd/{}", actor.pid, v4.fd))?;
    ensure!(target.to_str() == Some(format!("socket:[{}]", v4.inode).as_str()));
    actor.close(&v4)?;
    ensure!(
        row(actor.pid, "tcp", v4.inode)?.is_none(),
        "still there after close"
    );
    Ok(())
}

#[test]
fn shutdown_and_disconnect_end_listening() -> Result<()> {
    let mut actor = Actor::start("t")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 2)?;
    actor.call(&format!("shutdown {}", sock.slot))?;
    ensure!(row(actor.pid, "tcp", sock.inode)?.is_none());
    actor.listen(&sock, 4)?;
    let port = actor.port(&sock)?;
    is_listening(&actor, "tcp", &sock, port)?;
    actor.call(&format!("connect {} unspecified", sock.slot))?;
    ensure!(row(actor.pid, "tcp", sock.inode)?.is_none());
    Ok(())
}

#[test]
fn udp_binds_and_clients_do_not() -> Result<()> {
    let mut actor = Actor::start("t")?;
    let bound = actor.socket(Kind::UDP4)?;
    actor.call(&format!("bind {} 127.0.0.1:0", bound.slot))?;
    let port = actor.port(&bound)?;
    let told = must(actor.pid, "udp", bound.inode)?;
    ensure!(
        word(&told, 1) == format!("0100007F:{port:04X}") && word(&told, 3) == "07",
        "{told}"
    );
    for verb in ["connect", "send"] {
        let client = actor.socket(Kind::UDP4)?;
        actor.call(&format!("{verb} {} 127.0.0.1:9", client.slot))?;
        ensure!(actor.port(&client)? != 0);
        must(actor.pid, "udp", client.inode)?;
    }
    Ok(())
}

#[test]
fn unix_names_are_what_was_asked_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut actor = Actor::start("t")?;
    actor.chdir(folder.path())?;
    let relative = actor.socket(Kind::UNIX_SEQPACKET)?;
    actor.bind(&relative, &Address::path("x.sock".as_ref()))?;
    actor.listen(&relative, 1)?;
    let told = must(actor.pid, "unix", relative.inode)?;
    ensure!(
        word(&told, 7) == "x.sock" && word(&told, 5) == "01",
        "{told}"
    );
    ensure!(folder.path().join("x.sock").exists());
    let automatic = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&automatic, &Address::Unix(Vec::new()))?;
    let Address::Unix(name) = actor.name(&automatic)? else {
        anyhow::bail!("no unix name")
    };
    ensure!(name.len() == 6 && name.first() == Some(&0), "{name:?}");
    let strange = [b"pw\0\xff\\", std::process::id().to_string().as_bytes()].concat();
    let odd = actor.socket(Kind::UNIX_DGRAM)?;
    actor.bind(&odd, &Address::abstract_name(&strange))?;
    ensure!(actor.name(&odd)? == Address::abstract_name(&strange));
    let mut long = format!("{}/", folder.path().display());
    long.extend(std::iter::repeat_n('n', 108 - long.len()));
    let longest = actor.socket(Kind::UNIX_DGRAM)?;
    actor.bind(&longest, &Address::path(long.as_ref()))?;
    ensure!(std::path::Path::new(&long).exists());
    Ok(())
}

#[test]
fn packet_and_raw_sockets_receive() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut actor = Actor::start("t")?;
    let all = actor.socket(Kind::PACKET_ALL)?;
    let told = must(actor.pid, "packet", all.inode)?;
    ensure!(word(&told, 3) == "0003" && word(&told, 5) == "1", "{told}");
    let later = actor.socket(Kind::PACKET_NONE)?;
    let told = must(actor.pid, "packet", later.inode)?;
    ensure!(word(&told, 3) == "0000" && word(&told, 5) == "0", "{told}");
    actor.bind(
        &later,
        &Address::Packet {
            ifindex: 1,
            ethertype: 3,
        },
    )?;
    let told = must(actor.pid, "packet", later.inode)?;
    ensure!(
        word(&told, 3) == "0003" && word(&told, 4) == "1" && word(&told, 5) == "1",
        "{told}"
    );
    let icmp = actor.socket(Kind::RAW_ICMP4)?;
    must(actor.pid, "raw", icmp.inode)?;
    let icmp6 = actor.socket(Kind::RAW_ICMP6)?;
    must(actor.pid, "raw6", icmp6.inode)?;
    Ok(())
}

#[test]
fn mptcp_listens_as_itself() -> Result<()> {
    if !Kind::MPTCP4.is_available() {
        eprintln!("no MPTCP in this kernel");
        return Ok(());
    }
    let mut actor = Actor::start("t")?;
    let sock = actor.listener(Kind::MPTCP4, "127.0.0.1:0", 6)?;
    let port = actor.port(&sock)?;
    // The table of TCP shows the subflow, whose inode is not the socket's.
    let all = fs::read_to_string(format!("/proc/{}/net/tcp", actor.pid))?;
    let local = format!("0100007F:{port:04X}");
    ensure!(
        all.lines()
            .any(|line| word(line, 1) == local && word(line, 3) == "0A"),
        "{all}"
    );
    Ok(())
}

#[test]
fn refusals_carry_the_errno() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut actor = Actor::start("t")?;
    let sock = actor.socket(Kind::TCP4)?;
    let taken = holder.local_addr()?;
    ensure!(actor.refused(&format!("bind {} {taken}", sock.slot))? == "EADDRINUSE");
    let elsewhere = format!("bind {} 192.0.2.1:8080", sock.slot);
    ensure!(actor.refused(&elsewhere)? == "EADDRNOTAVAIL");
    actor.call("user 65534")?;
    let status = fs::read_to_string(format!("/proc/{}/status", actor.pid))?;
    ensure!(
        status
            .lines()
            .any(|line| line == "Uid:\t65534\t65534\t65534\t65534"),
        "{status}"
    );
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    if first.trim().parse::<u16>()? > 81 {
        ensure!(actor.refused(&format!("bind {} 127.0.0.1:81", sock.slot))? == "EACCES");
    }
    Ok(())
}

#[test]
fn uring_binds_and_listens() -> Result<()> {
    if !uring::is_available() {
        eprintln!("io_uring here cannot bind");
        return Ok(());
    }
    for mode in ["", " sqpoll"] {
        let mut actor = Actor::start("t")?;
        let sock = actor.socket(Kind::TCP4)?;
        actor.call(&format!("uring-bind {} 127.0.0.1:0{mode}", sock.slot))?;
        actor.call(&format!("uring-listen {} 8{mode}", sock.slot))?;
        let port = actor.port(&sock)?;
        is_listening(&actor, "tcp", &sock, port)?;
    }
    Ok(())
}

#[test]
fn holders_keep_a_listener_open() -> Result<()> {
    let me = std::process::id();
    let mut sender = Actor::start("t1")?;
    let mut receiver = Actor::start("t2")?;
    let sock = sender.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let passed = sender.pass(&sock)?;
    receiver.take(&sock, passed.as_fd())?;
    drop(passed);
    let child: i32 = sender.call("fork")?.number("pid")?;
    sender.exit()?;
    must(me, "tcp", sock.inode)?;
    receiver.exec("t3", &[&sock])?;
    must(me, "tcp", sock.inode)?;
    let arguments = fs::read(format!("/proc/{}/cmdline", receiver.pid))?;
    let wanted: Vec<u8> = receiver
        .args
        .iter()
        .flat_map(|arg| [arg.as_bytes(), b"\0"].concat())
        .collect();
    // Only the first three: the slot's descriptor number is the receiver's own.
    let upto = wanted.iter().rposition(|&byte| byte == b'=').unwrap_or(0);
    ensure!(arguments.get(..upto) == wanted.get(..upto), "{arguments:?}");
    receiver.close(&sock)?;
    must(me, "tcp", sock.inode)?;
    let child = Pid::from_raw(child).context("no pid")?;
    kill_process(child, Signal::KILL)?;
    for _ in 0..400 {
        if row(me, "tcp", sock.inode)?.is_none() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    anyhow::bail!("still listening after the last holder went")
}

#[test]
fn identities_are_as_told() -> Result<()> {
    let mut actor = Actor::launch(
        "t",
        &Launch {
            chain: 2,
            ..Launch::default()
        },
    )?;
    let read = |name: &str| fs::read(format!("/proc/{}/{name}", actor.pid));
    let joined: Vec<u8> = actor
        .args
        .iter()
        .flat_map(|arg| [arg.as_bytes(), b"\0"].concat())
        .collect();
    ensure!(read("cmdline")? == joined);
    ensure!(
        fs::read_link(format!("/proc/{}/exe", actor.pid))?.to_str() == Some(actor.exe.as_str())
    );
    let parent = fs::read(format!("/proc/{}/cmdline", actor.ppid))?;
    ensure!(parent.windows(5).any(|part| part == b"chain"), "{parent:?}");
    let name = b"\x1b[2J\nx\xff\\y";
    actor.call(&format!("comm {}", hex(name)))?;
    ensure!(fs::read(format!("/proc/{}/comm", actor.pid))? == [name.as_slice(), b"\n"].concat());
    let sock = actor.socket(Kind::TCP4)?;
    let tid: u32 = actor
        .call(&format!("thread listen {} 1", sock.slot))?
        .number("tid")?;
    ensure!(tid != actor.pid);
    Ok(())
}

#[test]
fn a_namespace_is_another_one() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut actor = Actor::start("t")?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    let link = fs::read_link(format!("/proc/{}/ns/net", actor.pid))?;
    ensure!(link.to_str() == Some(format!("net:[{netns}]").as_str()));
    ensure!(fs::read_link("/proc/self/ns/net")? != link);
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:8080", 1)?;
    ensure!(sock.netns == netns);
    is_listening(&actor, "tcp", &sock, 8080)?;
    ensure!(row(std::process::id(), "tcp", sock.inode)?.is_none());
    Ok(())
}

#[test]
fn short_lives_and_their_pids() -> Result<()> {
    let mut actor = Actor::start("t")?;
    let answer = actor.call("blink 20 t-blink 2")?;
    let pids: std::collections::HashSet<&str> = answer.text("pids")?.split(',').collect();
    ensure!(pids.len() == 20, "{pids:?}");
    Ok(())
}

#[test]
fn nothing_outlives_the_harness() -> Result<()> {
    let mut actor = Actor::start("t")?;
    let forked: i32 = actor.call("fork")?.number("pid")?;
    actor.exit()?;
    drop(actor);
    let forked = Pid::from_raw(forked).context("no pid")?;
    for _ in 0..400 {
        // A dead child that nobody has waited for yet is dead.
        let state = fs::read_to_string(format!("/proc/{forked}/stat")).unwrap_or_default();
        if test_kill_process(forked).is_err() || state.contains(") Z ") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    anyhow::bail!("the forked child is still alive")
}
