//! Bytes that want to be a terminal's commands, a line of their own, or too long: in every field that a
//! process can choose, and in every form of output.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::address::Address;
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::trigger::Launch;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Event, Kind, Sees, Watch, locate};
use serde_json::{Value, json};

use super::scenarios;

scenarios!("hostile": every_field, many_arguments, one_long_argument);

/// Clear the screen, end the line, a C1 command, turn the direction, mark the byte order, delete; then
/// what must stay unambiguous: a backslash, no UTF-8, a quote.
const BYTES: &[u8] =
    b"\x1b[2J\r\n\xc2\x9b31m\xe2\x80\xae\xef\xbb\xbf\x7f\\\xff\"\xe2\x81\xa6\xe2\x80\x8bx";
/// The same as text that is safe.
const TOLD: &str =
    r#"\x1b[2J\x0d\x0a\xc2\x9b31m\xe2\x80\xae\xef\xbb\xbf\x7f\x5c\xff"\xe2\x81\xa6\xe2\x80\x8bx"#;
/// What the kernel keeps of a program's name that starts with `p` and these bytes: 15 bytes.
const NAME_TOLD: &str = r"p\x1b[2J\x0d\x0a\xc2\x9b31m\xe2\x80\xae";
/// Longest line, its end included.
const LINE_MAX: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(15);

/// Program, folder, name, arguments, path and abstract name: all of them at once.
fn every_field(context: &Context) -> Result<()> {
    let outputs = Outputs::start(context)?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let within = folder.join(odd("d"));
    fs::create_dir(&within)?;
    let program = within.join(odd("p"));
    fs::copy(locate::actor()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let launch = Launch {
        program: Some(program),
        name: Some(odd("0")),
        more: vec![odd("1"), OsString::new(), odd("2")],
        ..Launch::default()
    };
    let mut actor = Actor::launch("hostile-fields", &launch)?;
    actor.chdir(&within)?;
    let tcp = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let port = actor.port(&tcp)?;
    let path = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&path, &Address::path(Path::new(&odd("s"))))?;
    actor.listen(&path, 1)?;
    let name = actor.socket(Kind::UNIX_STREAM)?;
    let unique = format!("pw-hostile-{}", std::process::id());
    actor.bind(
        &name,
        &Address::abstract_name(&[unique.as_bytes(), BYTES].concat()),
    )?;
    actor.listen(&name, 1)?;

    let folder = folder.to_str().context("a folder that is no UTF-8")?;
    let process = json!({
        "process.name": NAME_TOLD,
        "process.exe": format!("{folder}/d{TOLD}/p{TOLD}"),
        "process.cwd": format!("{folder}/d{TOLD}"),
        "process.args": [format!("0{TOLD}"), "serve", "hostile-fields",
            format!("1{TOLD}"), "", format!("2{TOLD}")],
        "process.args_truncated": null,
    });
    for (sock, socket) in [
        (&tcp, json!({"socket.port": port})),
        (
            &path,
            json!({
                "socket.path": format!("{folder}/d{TOLD}/s{TOLD}"),
                "socket.path_as_bound": format!("s{TOLD}"),
            }),
        ),
        (&name, json!({"socket.abstract": format!("{unique}{TOLD}")})),
    ] {
        let event = outputs.opening(&actor, sock.inode)?;
        demand_all(&event, &process)?;
        demand_all(&event, &socket)?;
        ensure!(
            event.text("message").contains(NAME_TOLD),
            "the message does not name it: {}",
            event.value()
        );
    }
    let port = format!("127.0.0.1:{port}");
    let line = outputs.human_line(&port)?;
    for part in [NAME_TOLD, &format!("/d{TOLD}/p{TOLD}"), &format!("1{TOLD}")] {
        ensure!(line.contains(part), "no {part} in {line:?}");
    }
    outputs.human_line(&format!("{folder}/d{TOLD}/s{TOLD}"))?;
    outputs.human_line(&format!("@{unique}{TOLD}"))?;
    outputs.judge()
}

/// 64 KiB of arguments, which escaped are four times as long.
fn many_arguments(context: &Context) -> Result<()> {
    let arg = || OsString::from_vec(BYTES.repeat(4));
    let more: Vec<OsString> = (0..512).map(|_| arg()).collect();
    let told = |at: usize| (at > 2).then(|| TOLD.repeat(4));
    long(context, "hostile-many", more, told)
}

/// One argument that alone is longer than a line may be.
fn one_long_argument(context: &Context) -> Result<()> {
    let more = vec![OsString::from_vec(BYTES.repeat(100 * 1024 / BYTES.len()))];
    let whole = TOLD.repeat(100 * 1024 / BYTES.len());
    long(context, "hostile-long", more, |at| {
        (at > 2).then(|| whole.clone())
    })
}

/// The line stays a line, what is told of the arguments is true, and that they are cut is said.
fn long(
    context: &Context,
    token: &str,
    more: Vec<OsString>,
    told: impl Fn(usize) -> Option<String>,
) -> Result<()> {
    let outputs = Outputs::start(context)?;
    let launch = Launch {
        more,
        ..Launch::default()
    };
    let mut actor = Actor::launch(token, &launch)?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let port = actor.port(&sock)?;
    let event = outputs.opening(&actor, sock.inode)?;
    demand_all(
        &event,
        &json!({"process.exe": actor.exe, "process.pid": actor.pid, "process.args_truncated": true}),
    )?;
    let args = event
        .at("process.args")
        .as_array()
        .context("no arguments at all")?;
    ensure!(
        args.len() > 3,
        "only {} arguments: {}",
        args.len(),
        event.value()
    );
    for (at, arg) in args.iter().enumerate() {
        let arg = arg.as_str().unwrap_or_default();
        let last = at + 1 == args.len();
        let right = match told(at) {
            Some(whole) if last => whole.starts_with(arg) && !arg.is_empty(),
            Some(whole) => whole == arg,
            None => actor.args.get(at).map(String::as_str) == Some(arg),
        };
        ensure!(right, "argument {at} is {arg:?}");
    }
    let line = outputs.human_line(&format!("127.0.0.1:{port} "))?;
    ensure!(
        line.ends_with('…'),
        "that the arguments are cut is not said: {:?}",
        line.get(line.len().saturating_sub(100)..)
    );
    outputs.judge()
}

/// A daemon and a reader of each form.
struct Outputs {
    watch: Watch,
    readers: Vec<Reader>,
    home: Home,
    _daemon: portwatch_tests::harness::daemon::Daemon,
}

impl Outputs {
    fn start(context: &Context) -> Result<Self> {
        let home = Home::new()?;
        let daemon = home.start(context.rung())?;
        let watch = home.tail(&[])?;
        let readers = ["json", "human"]
            .into_iter()
            .map(|form| Reader::start(&home, form))
            .collect::<Result<_>>()?;
        Ok(Self {
            watch,
            readers,
            home,
            _daemon: daemon,
        })
    }

    fn opening(&self, actor: &Actor, inode: u64) -> Result<Event> {
        self.watch.expect(
            &format!("opening of socket {inode}"),
            Sees::ByReconcile,
            0,
            |event| event.has_pid(actor.pid),
            |event| event.is_opening() && event.has_inode(inode),
        )
    }

    /// The line for people that holds this text.
    fn human_line(&self, part: &str) -> Result<String> {
        let human = self.readers.get(1).context("no reader")?;
        human.line(part)
    }

    /// Everything that was written: no byte that could do harm, no line that is not an event's.
    fn judge(&self) -> Result<()> {
        for reader in &self.readers {
            let text = reader.text()?;
            for line in text.lines() {
                harmless(line)?;
                let whole = match reader.form {
                    "json" => serde_json::from_str::<Value>(line).is_ok_and(|one| one.is_object()),
                    _ => has_clock(line),
                };
                ensure!(whole, "{}: a line of somebody else: {line:?}", reader.form);
            }
        }
        let list = |form: &str| -> Result<String> {
            let told = self.home.command()?.args(["ls", "-o", form]).output()?;
            ensure!(told.status.success(), "ls -o {form} failed: {told:?}");
            Ok(String::from_utf8(told.stdout)?)
        };
        // Others open and close meanwhile; in a forged table the difference would stay.
        let deadline = Instant::now() + PATIENCE * scale();
        loop {
            let (before, table, after) = (list("json")?, list("table")?, list("json")?);
            before
                .lines()
                .chain(table.lines())
                .chain(after.lines())
                .try_for_each(harmless)?;
            let rows = table.lines().count();
            if before.lines().count() + 1 == rows && after.lines().count() + 1 == rows {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{rows} rows for {} listeners:\n{table}",
                after.lines().count()
            );
        }
    }
}

/// A `tail` whose output goes into a file as it is.
struct Reader {
    child: Child,
    form: &'static str,
    file: PathBuf,
}

impl Reader {
    fn start(home: &Home, form: &'static str) -> Result<Self> {
        let file = home.path(form);
        let child = home
            .command()?
            .args(["tail", "-o", form])
            .stdout(fs::File::create(&file)?)
            .stderr(Stdio::null())
            .spawn()?;
        let reader = Self { child, form, file };
        let deadline = Instant::now() + PATIENCE * scale();
        let mut open_for = Duration::from_millis(20);
        while reader.text()?.is_empty() {
            ensure!(Instant::now() < deadline, "tail -o {form} says nothing");
            let listener = TcpListener::bind("127.0.0.1:0")?;
            std::thread::sleep(open_for);
            drop(listener);
            // Where nothing but looking again tells of it, it must still be there at the next look.
            open_for = (2 * open_for).min(Duration::from_secs(3));
        }
        Ok(reader)
    }

    /// All whole lines so far.
    fn text(&self) -> Result<String> {
        let bytes = fs::read(&self.file)?;
        let end = bytes.iter().rposition(|&byte| byte == b'\n');
        let whole = bytes.get(..end.map_or(0, |end| end + 1));
        String::from_utf8(whole.unwrap_or_default().to_vec()).context("output that is no UTF-8")
    }

    fn line(&self, part: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE * scale();
        loop {
            let text = self.text()?;
            if let Some(line) = text.lines().find(|line| line.contains(part)) {
                return Ok(line.to_owned());
            }
            if Instant::now() > deadline {
                bail!("tail -o {} does not say {part:?}: {text}", self.form);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No control character, nothing that turns the direction or cannot be seen, and not too long.
fn harmless(line: &str) -> Result<()> {
    ensure!(
        line.len() < LINE_MAX,
        "a line of {} bytes: {:?}…",
        line.len(),
        line.get(..100)
    );
    let bad = line.chars().find(|c| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    });
    match bad {
        Some(bad) => bail!("{bad:?} in {line:?}"),
        None => Ok(()),
    }
}

/// Does it start as every line for people does: `19:42:01.123  `?
fn has_clock(line: &str) -> bool {
    let pattern = b"dd:dd:dd.ddd  ";
    line.len() > pattern.len()
        && line
            .bytes()
            .zip(pattern)
            .all(|(byte, &wanted)| match wanted {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            })
}

/// This letter and the hostile bytes.
fn odd(letter: &str) -> OsString {
    [OsStr::new(letter), OsStr::from_bytes(BYTES)]
        .into_iter()
        .collect()
}
