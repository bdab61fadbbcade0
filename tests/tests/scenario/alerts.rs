//! Alerts by mail, taken by a real server and by one that misbehaves as told: who is told what, and what happens when a
//! server does not take it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::mail_server::{MAILBOX, MailServer, PASSWORD, USER};
use portwatch_tests::harness::program::{find, free_tcp_port, nginx};
use portwatch_tests::harness::smtp_peer::{Deed, Record, SmtpPeer, Step};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome};
use serde_json::Value;

use super::scenarios;

scenarios!(
    userland "alerts": a_test_prints_the_servers_answer, certificates_and_logins_are_checked, a_password_is_never_told,
    a_restart_is_not_told, expected_is_missed_and_back, greylisted_then_taken, refused_for_good, each_recipient_for_itself,
    the_next_server_takes_it, a_repetition_has_the_same_id,
);

/// How long it may take until a mail is there, beyond what the daemon waits on purpose.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// The distance of the second mail to the first.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// The server's own words, or 69 and why.
fn a_test_prints_the_servers_answer(_: &Context) -> Result<Outcome> {
    let Some(server) = MailServer::start()? else {
        return Ok(MailServer::missing());
    };
    let home = Home::new()?;
    configure(&home, &format!("server = \"127.0.0.1:{}\"\n", server.plain))?;
    let (code, told) = test(&home)?;
    ensure!(
        code == Some(0)
            && told.starts_with("email: taken by 127.0.0.1:")
            && told.contains(": 250 2.0.0"),
        "{code:?}: {told}"
    );
    let mail = server.wait(PATIENCE, |mail| mail.subject().contains("this is a test"))?;
    ensure!(
        mail.header("To") == MAILBOX && !mail.id().is_empty(),
        "{mail:?}"
    );
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nto = \"nobody@mail.test\"\n",
            server.plain
        ),
    )?;
    let (code, told) = test(&home)?;
    ensure!(
        code == Some(69)
            && told.contains("not taken: 127.0.0.1:")
            && told.contains("nobody@mail.test: 5"),
        "{code:?}: {told}"
    );
    configure(
        &home,
        &format!("server = \"127.0.0.1:{}\"\n", free_tcp_port()?),
    )?;
    let (code, told) = test(&home)?;
    ensure!(
        code == Some(69) && told.contains("refused"),
        "{code:?}: {told}"
    );
    Ok(Outcome::Done)
}

/// Nothing goes to a server that cannot show who it is, nor without the right password.
fn certificates_and_logins_are_checked(_: &Context) -> Result<Outcome> {
    let Some(server) = MailServer::start()? else {
        return Ok(MailServer::missing());
    };
    let home = Home::new()?;
    let (right, wrong, open) = (
        secret(&home, "right", PASSWORD, 0o600)?,
        secret(&home, "wrong", "hunter2", 0o600)?,
        secret(&home, "open", PASSWORD, 0o644)?,
    );
    let ca = format!("ca_file = \"{}\"\n", server.authority().display());
    let stranger = format!("ca_file = \"{}\"\n", server.stranger().display());
    let login = |file: &str| format!("user = \"{USER}\"\npassword_file = \"{file}\"\n");
    let starttls = |host: &str| {
        format!(
            "security = \"starttls\"\nserver = \"{host}:{}\"\n",
            server.starttls
        )
    };
    let tls = |host: &str| format!("security = \"tls\"\nserver = \"{host}:{}\"\n", server.tls);
    let plain = format!(
        "security = \"starttls\"\nserver = \"localhost:{}\"\n",
        server.plain
    );
    for (settings, expected) in [
        (
            vec![starttls("localhost"), login(&right)],
            Err("certificate is not trusted"),
        ),
        (
            vec![tls("localhost"), login(&right)],
            Err("certificate is not trusted"),
        ),
        (
            vec![starttls("localhost"), stranger, login(&right)],
            Err("certificate is not trusted"),
        ),
        (
            vec![starttls("127.0.0.1"), ca.clone(), login(&right)],
            Err("certificate is not for 127.0.0.1"),
        ),
        (
            vec![tls("127.0.0.1"), ca.clone(), login(&right)],
            Err("certificate is not for 127.0.0.1"),
        ),
        (vec![plain, ca.clone()], Err("it offers no STARTTLS")),
        (vec![starttls("localhost"), ca.clone()], Err("530 ")),
        (
            vec![starttls("localhost"), ca.clone(), login(&wrong)],
            Err("the login is refused: 535 "),
        ),
        (
            vec![starttls("localhost"), ca.clone(), login(&open)],
            Err("chmod o="),
        ),
        (
            vec![starttls("localhost"), ca.clone(), login(&right)],
            Ok("250 2.0.0"),
        ),
        (
            vec![tls("localhost"), ca.clone(), login(&right)],
            Ok("250 2.0.0"),
        ),
    ] {
        let settings = settings.concat();
        configure(&home, &settings)?;
        let (code, told) = test(&home)?;
        let (wanted, words) = match expected {
            Ok(words) => (0, words),
            Err(words) => (69, words),
        };
        ensure!(
            code == Some(wanted) && told.contains(words),
            "{settings}ended with {code:?}: {told}; {}",
            server.log()
        );
        ensure!(
            !told.contains(PASSWORD) && !told.contains("hunter2"),
            "a password is told: {told}"
        );
    }
    server.wait(PATIENCE, |_| true)?;
    Ok(Outcome::Done)
}

/// A login that is refused is tried again, and told without the password; when it is right the alert comes.
fn a_password_is_never_told(context: &Context) -> Result<Outcome> {
    let Some(server) = MailServer::start()? else {
        return Ok(MailServer::missing());
    };
    let home = Home::new()?;
    let file = secret(&home, "password", "hunter2-wrong", 0o600)?;
    let settings = format!(
        "security = \"tls\"\nserver = \"localhost:{}\"\nca_file = \"{}\"\nuser = \"{USER}\"\npassword_file = \"{file}\"\n\
         match = \"address in 127.95.1.0/24\"\n",
        server.tls,
        server.authority().display()
    );
    configure(&home, &settings)?;
    let mut daemon = home.start(context.rung())?;
    let mut actor = Actor::start("alerts-password")?;
    let _sock = actor.listener(Kind::TCP4, "127.95.1.1:0", 1)?;
    let told = status_until(&home, |channel| {
        channel["error"]
            .as_str()
            .is_some_and(|error| error.contains("535"))
    })?;
    ensure!(told["queued"] == 1 && told["refused"] == 0, "{told}");
    let human = home.command()?.arg("status").output()?;
    let texts = [
        told.to_string(),
        String::from_utf8_lossy(&human.stdout).into_owned(),
        fs::read_to_string(home.path("errors"))?,
    ];
    // The second is what goes over the wire: NUL ops NUL hunter2-wrong.
    for secret in ["hunter2-wrong", "AG9wcwBodW50ZXIyLXdyb25n"] {
        ensure!(
            !texts.iter().any(|text| text.contains(secret)),
            "told: {texts:?}"
        );
    }
    // Once it is right, what waits is delivered: killed or not.
    fs::write(&file, PASSWORD)?;
    daemon.crash()?;
    let _daemon = home.start(context.rung())?;
    server.wait(PATIENCE, |mail| mail.subject().contains("127.95.1.1:"))?;
    Ok(Outcome::Done)
}

/// What is approved may come and go as often as it likes; a stranger is told.
fn a_restart_is_not_told(context: &Context) -> Result<Outcome> {
    let (Some(program), Some(server)) = (find("nginx"), MailServer::start()?) else {
        return Ok(MailServer::missing());
    };
    let port = free_tcp_port()?;
    let mut web = nginx(&program, port, 2)?;
    let mut actor = Actor::start("alerts-baseline")?;
    let sock = actor.listener(Kind::TCP4, "127.95.2.1:0", 1)?;
    let home = Home::new()?;
    let scope = format!("port:{port} or address in 127.95.2.0/24");
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"{scope}\"\n",
            server.plain
        ),
    )?;
    let _daemon = home.start(context.rung())?;
    web.end()?;
    actor.close(&sock)?;
    let _web = nginx(&program, port, 2)?;
    let mut again = Actor::start("alerts-baseline-again")?;
    let _again = again.listener(Kind::TCP4, "127.95.2.1:0", 1)?;
    let mut stranger = Actor::start("alerts-stranger")?;
    let _sock = stranger.listener(Kind::TCP4, "127.95.2.2:0", 1)?;
    server.wait(PATIENCE, |mail| mail.subject().contains("127.95.2.2:"))?;
    let mails = server.mails()?;
    ensure!(
        mails.len() == 1
            && !mails[0].text.contains(&format!(":{port}/tcp"))
            && !mails[0].text.contains("127.95.2.1:"),
        "told: {mails:?}"
    );
    Ok(Outcome::Done)
}

/// One mail that it is gone, one that it is back, and how long that was.
fn expected_is_missed_and_back(context: &Context) -> Result<Outcome> {
    let Some(server) = MailServer::start()? else {
        return Ok(MailServer::missing());
    };
    let mut actor = Actor::start("alerts-expected")?;
    let sock = actor.listener(Kind::TCP4, "127.95.3.1:0", 1)?;
    let port = actor.port(&sock)?;
    let home = Home::new()?;
    let settings = format!(
        "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.95.3.0/24\"\n\
         [[expect]]\nname = \"must\"\naddress = \"127.95.3.1\"\nport = {port}\ngrace = \"1s\"\n",
        server.plain
    );
    configure(&home, &settings)?;
    let _daemon = home.start(context.rung())?;
    actor.close(&sock)?;
    let down = server.wait(PATIENCE, |_| true)?;
    let _back = actor.listener(Kind::TCP4, &format!("127.95.3.1:{port}"), 1)?;
    let back = server.wait(PAUSE + PATIENCE, |mail| mail.id() != down.id())?;
    let socket = format!("127.95.3.1:{port}/tcp");
    ensure!(
        [&down, &back]
            .iter()
            .all(|mail| mail.subject().contains(&socket)),
        "subjects: {:?}, {:?}",
        down.subject(),
        back.subject()
    );
    // How long it was away is part of the sentence.
    ensure!(
        down.subject().contains("down") || down.subject().contains("no longer"),
        "down: {}",
        down.subject()
    );
    ensure!(
        back.subject().contains(" after ") && back.subject().contains(" s"),
        "back: {}",
        back.subject()
    );
    let mails = server.mails()?;
    ensure!(mails.len() == 2, "{mails:?}");
    Ok(Outcome::Done)
}

/// Refused for now, for once: tried again, and taken.
fn greylisted_then_taken(context: &Context) -> Result<()> {
    let is_rcpt = |step: &Step| matches!(step, Step::Rcpt(_));
    let peer = SmtpPeer::start(move |step, record| match step {
        Step::Rcpt(_) if record.count(is_rcpt) < 2 => {
            Deed::Say("451 4.7.1 greylisted, come back later")
        }
        _ => Deed::Usual,
    })?;
    let home = Home::new()?;
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.95.4.0/24\"\n",
            peer.port
        ),
    )?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("alerts-grey")?;
    let _sock = actor.listener(Kind::TCP4, "127.95.4.1:0", 1)?;
    let told = status_until(&home, |channel| channel["error"].as_str().is_some())?;
    ensure!(
        told["error"].to_string().contains("451 4.7.1 greylisted") && told["queued"] == 1,
        "{told}"
    );
    peer.wait(PATIENCE, |record| record.taken.len() == 1)?;
    let told = status_until(&home, |channel| channel["delivered"] == 1)?;
    ensure!(
        told["queued"] == 0 && told["refused"] == 0 && told.get("error").is_none(),
        "{told}"
    );
    Ok(())
}

/// Refused for good: counted, and not tried again.
fn refused_for_good(context: &Context) -> Result<()> {
    let peer = SmtpPeer::start(|step, _| match step {
        Step::Rcpt(_) => Deed::Say("550 5.1.1 no such user"),
        _ => Deed::Usual,
    })?;
    let home = Home::new()?;
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.95.5.0/24\"\n",
            peer.port
        ),
    )?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("alerts-refused")?;
    let _sock = actor.listener(Kind::TCP4, "127.95.5.1:0", 1)?;
    let told = status_until(&home, |channel| channel["refused"] == 1)?;
    ensure!(
        told["queued"] == 0
            && told["delivered"] == 0
            && told["error"].to_string().contains("550 5.1.1 no such user"),
        "{told}"
    );
    // Longer than the first distances of what is tried again.
    std::thread::sleep(Duration::from_secs(3));
    let rcpts = peer.record().count(|step| matches!(step, Step::Rcpt(_)));
    ensure!(rcpts == 1, "tried {rcpts} times");
    Ok(())
}

/// One does not exist, one has no room for a while: the third gets every mail once and at once.
fn each_recipient_for_itself(context: &Context) -> Result<()> {
    let of = |name: &'static str| move |step: &Step| matches!(step, Step::Rcpt(to) if to.starts_with(name));
    let peer = SmtpPeer::start(move |step, record| match step {
        Step::Rcpt(to) if to.starts_with("gone") => Deed::Say("550 5.1.1 no such user"),
        Step::Rcpt(to)
            if to.starts_with("full")
                && record
                    .taken
                    .iter()
                    .filter(|one| one.to.iter().any(|to| to.starts_with("ops")))
                    .count()
                    < 2 =>
        {
            Deed::Say("452 4.2.2 mailbox full")
        }
        _ => Deed::Usual,
    })?;
    let home = Home::new()?;
    configure(
        &home,
        &format!(
            "to = [\"gone@mail.test\", \"full@mail.test\", \"ops@mail.test\"]\nserver = \"127.0.0.1:{}\"\n\
             match = \"address in 127.95.6.0/24\"\n",
            peer.port
        ),
    )?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("alerts-each")?;
    let _first = actor.listener(Kind::TCP4, "127.95.6.1:0", 1)?;
    peer.wait(PATIENCE, |record| record.taken.len() == 1)?;
    let _second = actor.listener(Kind::TCP4, "127.95.6.2:0", 1)?;
    // The second is not held up by the first, which still waits for one recipient.
    let is_both = |record: &Record| {
        record
            .taken
            .iter()
            .filter(|one| one.to == ["ops@mail.test"] || one.to.len() == 2)
            .count()
            == 2
    };
    peer.wait(PAUSE + PATIENCE, is_both)?;
    let record = peer.wait(PATIENCE, |record| {
        record
            .taken
            .iter()
            .flat_map(|one| &one.to)
            .filter(|to| to.starts_with("full"))
            .count()
            == 2
    })?;
    let mut got: Vec<(String, String)> = Vec::new();
    for one in &record.taken {
        for to in &one.to {
            got.push((to.clone(), one.mail.id().to_owned()));
        }
    }
    let all = got.len();
    got.sort();
    got.dedup();
    ensure!(all == 4 && got.len() == 4, "delivered: {got:?}");
    ensure!(
        record.count(of("gone")) == 2,
        "asked {} times for who does not exist",
        record.count(of("gone"))
    );
    let told = status_until(&home, |channel| channel["queued"] == 0)?;
    ensure!(
        told["refused"] == 2 && told["error"].to_string().contains("gone@mail.test: 550"),
        "{told}"
    );
    Ok(())
}

/// Whatever the first server does, the second one has the mail; unless the first one refuses it for good.
fn the_next_server_takes_it(_: &Context) -> Result<()> {
    let good = SmtpPeer::start(|_, _| Deed::Usual)?;
    for (at, deed) in [
        (Step::Connect, Deed::HangUp),
        (Step::Connect, Deed::Hang),
        (Step::Connect, Deed::Say("554 5.3.2 no service here")),
        (Step::Connect, Deed::Say("421 4.3.2 too busy")),
        (Step::Hello, Deed::Say("SSH-2.0-OpenSSH_9.2")),
        (Step::Mail, Deed::Say("421 4.3.2 shutting down")),
        (Step::Mail, Deed::Say("452 4.3.1 no room")),
        (Step::Data, Deed::Say("451 4.3.0 not now")),
        (Step::Data, Deed::HangUp),
        (Step::Body(String::new()), Deed::HangUp),
        (Step::Body(String::new()), Deed::Hang),
        (Step::Body(String::new()), Deed::Say("451 4.3.0 not now")),
    ] {
        let before = good.record().taken.len();
        let (place, what) = (at.clone(), deed.clone());
        let bad = SmtpPeer::start(move |step, _| {
            let is_it = std::mem::discriminant(step) == std::mem::discriminant(&place);
            if is_it { what.clone() } else { Deed::Usual }
        })?;
        let home = Home::new()?;
        configure(
            &home,
            &format!(
                "server = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\ntimeout = \"1s\"\n",
                bad.port, good.port
            ),
        )?;
        let began = Instant::now();
        let (code, told) = test(&home)?;
        let took = began.elapsed();
        ensure!(
            code == Some(0)
                && told.contains(&format!(
                    "taken by 127.0.0.1:{}: 250 queued as 4711",
                    good.port
                )),
            "{at:?} {deed:?}: {code:?}, {told}"
        );
        ensure!(
            good.record().taken.len() == before + 1 && bad.record().taken.is_empty(),
            "{at:?} {deed:?}: not once"
        );
        // One step at the most is waited for; for what a server may do with a whole mail, ten times as long.
        ensure!(
            took < Duration::from_secs(14) * scale(),
            "{at:?} {deed:?}: {took:?}"
        );
    }
    for at in [
        Step::Mail,
        Step::Rcpt(String::new()),
        Step::Body(String::new()),
    ] {
        let before = good.record().steps.len();
        let place = at.clone();
        let bad = SmtpPeer::start(move |step, _| {
            let is_it = std::mem::discriminant(step) == std::mem::discriminant(&place);
            if is_it {
                Deed::Say("554 5.7.1 not this one")
            } else {
                Deed::Usual
            }
        })?;
        let home = Home::new()?;
        configure(
            &home,
            &format!(
                "server = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n",
                bad.port, good.port
            ),
        )?;
        let (code, told) = test(&home)?;
        ensure!(
            code == Some(69)
                && told.contains("554 5.7.1 not this one")
                && good.record().steps.len() == before,
            "{at:?}: {code:?}, {told}"
        );
    }
    Ok(())
}

/// A server that took a mail and could not say so gets it again, and can tell.
fn a_repetition_has_the_same_id(context: &Context) -> Result<()> {
    let is_body = |step: &Step| matches!(step, Step::Body(_));
    let peer = SmtpPeer::start(move |step, record| match step {
        Step::Body(_) if record.count(is_body) < 2 => Deed::HangUp,
        _ => Deed::Usual,
    })?;
    let home = Home::new()?;
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.95.7.0/24\"\n",
            peer.port
        ),
    )?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("alerts-again")?;
    let _sock = actor.listener(Kind::TCP4, "127.95.7.1:0", 1)?;
    let record = peer.wait(PATIENCE, |record| record.taken.len() == 1)?;
    let mut bodies: Vec<&String> = record
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Body(body) => Some(body),
            _ => None,
        })
        .collect();
    ensure!(bodies.len() == 3, "sent {} times", bodies.len());
    // Its boundary is made anew.
    let head = |body: &&String| {
        body.lines()
            .filter(|line| line.starts_with("Message-ID:") || line.starts_with("Date:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let heads: Vec<_> = bodies.drain(..).map(|body| head(&body)).collect();
    ensure!(
        heads[0].len() == 2 && heads.iter().all(|one| *one == heads[0]),
        "{heads:?}"
    );
    Ok(())
}

/// `[email]` for the mailbox, and this. What is only on the loopback counts too where it is matched by its address.
pub(super) fn configure(home: &Home, settings: &str) -> Result<()> {
    let to = match settings.contains("to = ") {
        true => String::new(),
        false => format!("to = \"{MAILBOX}\"\n"),
    };
    let severity = match settings.contains("match = ") {
        true => "severity = \"info\"\n",
        false => "",
    };
    let text = format!("[email]\n{to}{severity}{settings}");
    fs::write(home.path("portwatch.toml"), text).context("cannot configure")
}

fn secret(home: &Home, name: &str, text: &str, mode: u32) -> Result<String> {
    let file = home.path(name);
    fs::write(&file, format!("{text}\n"))?;
    fs::set_permissions(&file, Permissions::from_mode(mode))?;
    Ok(Path::new(&file).display().to_string())
}

/// How `alert test` ends, and what it says.
fn test(home: &Home) -> Result<(Option<i32>, String)> {
    let output = home.command()?.args(["alert", "test", "email"]).output()?;
    let told = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&told).into_owned(),
    ))
}

/// The channel in `status`, as soon as it is so.
pub(super) fn status_until(home: &Home, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let output = home.command()?.args(["status", "-o", "json"]).output()?;
        let status: Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        let channel = &status["alerts"][0];
        if is_so(channel) {
            return Ok(channel.clone());
        }
        ensure!(Instant::now() < deadline, "not in time: {channel}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
