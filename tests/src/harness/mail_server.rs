//! OpenSMTPD, with TLS and a login, in a root of its own: it knows nothing of the host, and the host nothing of it.
//!
//! `cargo xtask test --only needs` unpacks it; what it has taken is read from its mailbox.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::mail::Mail;
use super::program::{Program, find, free_tcp_port, server, wait_for};
use super::watch::scale;

/// Who may log in.
pub const USER: &str = "ops";
/// With what.
pub const PASSWORD: &str = "correct-horse-battery";
/// Whom it takes mail for; it refuses every other recipient.
pub const MAILBOX: &str = "ops@mail.test";

/// What of the packages is needed.
const PARTS: [&str; 5] = ["bin", "lib", "lib64", "libexec", "sbin"];
/// Users of its world: itself, its queue, and the recipient.
const USERS: [(&str, u32); 4] = [
    ("root", 0),
    ("opensmtpd", 64_001),
    ("opensmtpq", 64_002),
    ("ops", OPS),
];
const OPS: u32 = 64_003;
/// How long a mail may take from its acceptance to the mailbox.
const DELIVERY: Duration = Duration::from_secs(10);

/// A running OpenSMTPD.
#[derive(Debug)]
pub struct MailServer {
    program: Program,
    /// Without TLS.
    pub plain: u16,
    /// STARTTLS and a login are required.
    pub starttls: u16,
    /// TLS from the first byte on; a login is required.
    pub tls: u16,
}

impl MailServer {
    /// Starts one; none where it was not unpacked. Its certificate is for `localhost`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Option<Self>> {
        let (Some(tree), Some(openssl)) = (server("opensmtpd"), find("openssl")) else {
            return Ok(None);
        };
        let ports = [free_tcp_port()?, free_tcp_port()?, free_tcp_port()?];
        let program = Program::start(|folder| {
            let root = folder.path().join("root");
            furnish(&root, &tree)?;
            certify(&openssl, folder.path(), &root)?;
            configure(&openssl, &root, ports)?;
            let mut command = Command::new("chroot");
            command
                .arg(&root)
                .args(["/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"]);
            Ok(command)
        })?;
        for port in ports {
            wait_for(port).with_context(|| program.errors())?;
        }
        let [plain, starttls, tls] = ports;
        Ok(Some(Self {
            program,
            plain,
            starttls,
            tls,
        }))
    }

    /// What to skip a scenario with where there is none.
    #[must_use]
    pub fn missing() -> super::Outcome {
        super::Outcome::Skipped(
            "OpenSMTPD or openssl is not here: run `cargo xtask test --only needs`".to_owned(),
        )
    }

    /// The certificate of the authority that signed its own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.program.folder().path().join("ca.pem")
    }

    /// An authority that signed nothing.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.program.folder().path().join("stranger.pem")
    }

    /// What it wrote of itself.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.errors()
    }

    /// How many mails it has taken; they are in the mailbox a moment later.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.log().matches(" smtp message msgid=").count()
    }

    /// Every mail that it has delivered, in no order.
    ///
    /// # Errors
    /// The mailbox cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        let mailbox = self
            .program
            .folder()
            .path()
            .join("root/home/ops/Maildir/new");
        let Ok(entries) = fs::read_dir(mailbox) else {
            return Ok(Vec::new());
        };
        entries
            .map(|entry| Ok(Mail::read(&fs::read(entry?.path())?)))
            .collect()
    }

    /// Waits for a mail like this.
    ///
    /// # Errors
    /// None comes in time.
    pub fn wait(&self, patience: Duration, is_it: impl Fn(&Mail) -> bool) -> Result<Mail> {
        let deadline = Instant::now() + (patience + DELIVERY) * scale();
        loop {
            let mails = self.mails()?;
            if let Some(mail) = mails.iter().find(|mail| is_it(mail)) {
                return Ok(mail.clone());
            }
            if Instant::now() > deadline {
                let subjects: Vec<&str> = mails.iter().map(Mail::subject).collect();
                bail!("no such mail; there are {subjects:?}; {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A root with the program and its libraries, and as little else as it can do with.
fn furnish(root: &Path, tree: &Path) -> Result<()> {
    for folder in [
        "etc/ssl/certs",
        "dev",
        "tmp",
        "run",
        "var/spool/smtpd",
        "var/lib/opensmtpd/empty",
        "home/ops",
        "usr",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    for part in PARTS {
        run(Command::new("cp")
            .arg("-a")
            .arg(tree.join("usr").join(part))
            .arg(root.join("usr")))?;
        if part != "libexec" {
            symlink(format!("usr/{part}"), root.join(part))?;
        }
    }
    symlink("/run", root.join("var/run"))?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(
        root.join("var/spool/smtpd"),
        fs::Permissions::from_mode(0o711),
    )?;
    chown(root.join("home/ops"), Some(OPS), Some(OPS))?;
    run(Command::new("mknod")
        .arg("-m666")
        .arg(root.join("dev/null"))
        .args(["c", "1", "3"]))?;
    let passwd: String = USERS
        .iter()
        .map(|(name, id)| format!("{name}:x:{id}:{id}::/home/{name}:/bin/sh\n"))
        .collect();
    let passwd = passwd.replace("/home/opensmtpd:", "/var/lib/opensmtpd/empty:");
    fs::write(root.join("etc/passwd"), passwd)?;
    let group: String = USERS
        .iter()
        .map(|(name, id)| format!("{name}:x:{id}:\n"))
        .collect();
    fs::write(root.join("etc/group"), group)?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    fs::write(
        root.join("etc/nsswitch.conf"),
        "passwd: files\ngroup: files\nhosts: files\n",
    )?;
    Ok(())
}

/// A certificate for `localhost`, by an authority of this test.
fn certify(openssl: &Path, folder: &Path, root: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name);
    let authority = |name: &str| {
        run(Command::new(openssl)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args(["-days", "2", "-subj", &format!("/CN={name}")])
            .args(["-addext", "basicConstraints=critical,CA:TRUE"])
            .arg("-keyout")
            .arg(at(&format!("{name}.key")))
            .arg("-out")
            .arg(at(&format!("{name}.pem"))))
    };
    authority("ca")?;
    authority("stranger")?;
    let key = root.join("etc/key.pem");
    run(Command::new(openssl)
        .args([
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=mail",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(at("request")))?;
    fs::write(at("names"), "subjectAltName=DNS:localhost\n")?;
    run(Command::new(openssl)
        .args(["x509", "-req", "-CAcreateserial", "-days", "2", "-in"])
        .arg(at("request"))
        .arg("-CA")
        .arg(at("ca.pem"))
        .arg("-CAkey")
        .arg(at("ca.key"))
        .arg("-extfile")
        .arg(at("names"))
        .arg("-out")
        .arg(root.join("etc/cert.pem")))?;
    fs::set_permissions(key, fs::Permissions::from_mode(0o600))?;
    // It does not start without the authorities of its host, though it needs none.
    fs::copy(at("ca.pem"), root.join("etc/ssl/certs/ca-certificates.crt"))?;
    Ok(())
}

fn configure(openssl: &Path, root: &Path, [plain, starttls, tls]: [u16; 3]) -> Result<()> {
    let hash = Command::new(openssl)
        .args(["passwd", "-6", PASSWORD])
        .output()?;
    let hash = String::from_utf8(hash.stdout)?;
    let hash = hash.trim();
    let configuration = format!(
        "table logins {{ {USER} = \"{hash}\" }}\n\
         pki mail cert \"/etc/cert.pem\"\npki mail key \"/etc/key.pem\"\n\
         listen on 127.0.0.1 port {plain}\n\
         listen on 127.0.0.1 port {starttls} tls-require pki mail auth <logins>\n\
         listen on 127.0.0.1 port {tls} smtps pki mail auth <logins>\n\
         action \"box\" maildir \"/home/ops/Maildir\" virtual {{ \"{MAILBOX}\" = ops }}\n\
         match from any for domain \"mail.test\" action \"box\"\n"
    );
    fs::write(root.join("etc/smtpd.conf"), configuration)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(())
}
