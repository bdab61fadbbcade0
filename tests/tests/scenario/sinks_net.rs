//! Where events go over a network: real receivers that come and go, while the daemon is killed as well.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::kafka::{self, KafkaCluster, TOPIC};
use portwatch_tests::harness::receiver::{Authority, Receiver};
use portwatch_tests::harness::receivers::{NatsServer, Rsyslog, missing};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome};

use super::scenarios;

scenarios!(
    userland "sinks_net": peers_have_every_event_whoever_is_killed, a_topic_has_every_event_of_a_host_in_one_partition,
    a_server_is_asked_again_until_it_takes_them,
);

/// Longer than the longest pause after a few attempts that failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever is killed when, what was seen arrives everywhere: while a receiver is away it waits on the disk, also over a
/// crash of the daemon.
fn peers_have_every_event_whoever_is_killed(context: &Context) -> Result<Outcome> {
    let (Some(mut rsyslog), Some(mut nats)) = (Rsyslog::start()?, NatsServer::start("")?) else {
        return Ok(Outcome::Skipped(missing()));
    };
    let home = Home::new()?;
    let (ca, other) = (
        rsyslog.authority.certificate(),
        nats.authority.certificate(),
    );
    let text = format!(
        "[[sink]]\ntype = \"syslog\"\naddress = \"tls://localhost:{}\"\nca_file = \"{}\"\n\
         [[sink]]\ntype = \"relp\"\naddress = \"tcp://127.0.0.1:{}\"\n\
         [[sink]]\ntype = \"nats\"\nservers = \"tls://localhost:{}\"\nca_file = \"{}\"\nstream = \"EVENTS\"\n\
         create_stream = true\nsync = \"always\"\n",
        rsyslog.tls,
        ca.display(),
        rsyslog.relp,
        nats.port,
        other.display(),
    );
    fs::write(home.path("portwatch.toml"), text)?;
    let mut daemon = home.start(context.rung())?;
    let mut actor = Actor::start("sink-peers")?;
    let mut all = vec![actor.listener(Kind::TCP4, "127.93.0.1:0", 1)?.inode];
    arrive(&all, &rsyslog, &nats).context("at first")?;
    rsyslog.kill()?;
    nats.kill()?;
    all.push(actor.listener(Kind::TCP4, "127.93.0.2:0", 1)?.inode);
    // Longer than what is written may wait for being synced.
    std::thread::sleep(Duration::from_millis(1_500));
    daemon.crash()?;
    rsyslog.restart()?;
    nats.restart()?;
    let daemon = home.start(context.rung())?;
    all.push(actor.listener(Kind::TCP4, "127.93.0.3:0", 1)?.inode);
    arrive(&all, &rsyslog, &nats).context("after everybody was killed")?;
    drop(daemon);
    Ok(Outcome::Done)
}

/// By syslog and by RELP, so twice there, and in the stream.
fn arrive(inodes: &[u64], rsyslog: &Rsyslog, nats: &NatsServer) -> Result<()> {
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let lines = rsyslog.lines().join("\n");
        let stored = nats.stored()?;
        let stored = String::from_utf8_lossy(&stored);
        let missing: Vec<&u64> = inodes
            .iter()
            .filter(|inode| {
                let key = format!("\"inode\":{inode},");
                lines.matches(&key).count() < 2 || !stored.contains(&key)
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{missing:?} of {inodes:?} did not arrive; rsyslog: {}; {lines}; nats-server: {}",
            rsyslog.log(),
            nats.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Also those of the time when the cluster was away, and the daemon crashed.
fn a_topic_has_every_event_of_a_host_in_one_partition(context: &Context) -> Result<Outcome> {
    let Some(mut cluster) = KafkaCluster::start()? else {
        return Ok(Outcome::Skipped(kafka::missing()));
    };
    let home = Home::new()?;
    let text = format!(
        "[[sink]]\ntype = \"kafka\"\nservers = \"tcp://127.0.0.1:{}\"\ntopic = \"{TOPIC}\"\nsync = \"always\"\n\
         match = \"type == listener.opened\"\n",
        cluster.port
    );
    fs::write(home.path("portwatch.toml"), text)?;
    let mut daemon = home.start(context.rung())?;
    let mut actor = Actor::start("sink-kafka")?;
    let mut listen = |address| -> Result<String> {
        let inode = actor.listener(Kind::TCP4, address, 1)?.inode;
        Ok(format!("\"inode\":{inode},"))
    };
    let arrive = |cluster: &KafkaCluster, key: &str| {
        cluster.wait(|all| all.iter().any(|record| record.value.contains(key)))
    };
    arrive(&cluster, &listen("127.93.0.5:0")?).context("at first")?;
    cluster.kill()?;
    let while_away = listen("127.93.0.6:0")?;
    // Longer than until it is on the disk.
    std::thread::sleep(Duration::from_millis(500));
    daemon.crash()?;
    cluster.restart()?;
    let daemon = home.start(context.rung())?;
    arrive(&cluster, &while_away).context("while it was away")?;
    let consumed = arrive(&cluster, &listen("127.93.0.7:0")?).context("after all")?;
    let first = consumed.first().context("nothing")?;
    for record in &consumed {
        let place = (&record.key, &record.partition);
        ensure!(place == (&first.key, &first.partition), "{consumed:?}");
        let id = record
            .headers
            .strip_prefix("id=")
            .and_then(|rest| rest.split(',').next());
        let id = id.context("no id")?;
        ensure!(
            record.value.contains(&format!("\"id\":\"{id}\"")),
            "{record:?}"
        );
    }
    drop(daemon);
    Ok(Outcome::Done)
}

/// Over TLS, with a token that nobody else sees, and again after it was busy.
fn a_server_is_asked_again_until_it_takes_them(context: &Context) -> Result<()> {
    let authority = Authority::new()?;
    let receiver = Receiver::start(Some(&authority), |nth| match nth {
        0 => ("503 Service Unavailable", "Retry-After: 1\r\n", "busy"),
        _ => ("200 OK", "", ""),
    })?;
    let home = Home::new()?;
    let token = home.path("token");
    fs::write(&token, "s3cret-t0ken\n")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    let text = format!(
        "[[sink]]\ntype = \"http\"\nurl = \"https://localhost:{}/events\"\nca_file = \"{}\"\ntoken_file = \"{}\"\n\
         match = \"type == listener.opened\"\n",
        receiver.port,
        authority.certificate().display(),
        token.display(),
    );
    fs::write(home.path("portwatch.toml"), text)?;
    let daemon = home.start(context.rung())?;
    let mut actor = Actor::start("sink-http")?;
    let sock = actor.listener(Kind::TCP4, "127.93.0.4:0", 1)?;
    let key = format!("\"inode\":{},", sock.inode);
    let deadline = Instant::now() + PATIENCE * scale();
    let request = loop {
        let requests = receiver.requests();
        let taken = requests.iter().skip(1);
        let mut having = taken.filter(|one| String::from_utf8_lossy(&one.body).contains(&key));
        if let Some(request) = having.next() {
            break request.clone();
        }
        ensure!(Instant::now() < deadline, "it did not arrive: {requests:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(request.line == "POST /events", "{}", request.line);
    ensure!(
        request.header("authorization") == Some("Bearer s3cret-t0ken"),
        "{request:?}"
    );
    let status = home.command()?.args(["status", "-o", "json"]).output()?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(!status.contains("s3cret"), "{status}");
    drop(daemon);
    Ok(())
}
