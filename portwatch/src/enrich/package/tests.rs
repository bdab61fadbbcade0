//! Package look-ups in databases made for the purpose, and in the one of this host.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::rpm_header::tests::header;
use super::{Packages, spellings};
use crate::enrich::hash::below;
use crate::enrich::proc_fs::{FileStamp, stamp};

fn file(root: &Path, path: &str) -> FileStamp {
    let path = below(root, path.as_bytes());
    std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
    std::fs::write(&path, path.as_os_str().as_encoded_bytes()).expect("file");
    stamp(rustix::fs::CWD, &path).expect("file").0
}

fn list(root: &Path, package: &str, lines: &str) {
    let info = root.join("var/lib/dpkg/info");
    std::fs::create_dir_all(&info).expect("dir");
    std::fs::write(info.join(format!("{package}.list")), lines).expect("list");
}

#[test]
fn merged_usr_has_four_spellings_of_a_program() {
    let names = |path: &str| {
        let mut names = spellings(path.as_bytes());
        names.sort();
        names
            .into_iter()
            .map(|n| String::from_utf8(n).expect("text"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names("/usr/sbin/x"),
        ["/bin/x", "/sbin/x", "/usr/bin/x", "/usr/sbin/x"]
    );
    assert_eq!(
        names("/lib/systemd/systemd"),
        ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"]
    );
    assert_eq!(names("/opt/bin/x"), ["/opt/bin/x"]);
    assert_eq!(names("/usr"), ["/usr"]);
    assert_eq!(names("x"), ["x"]);
}

#[test]
fn dpkg_lists_may_name_the_unmerged_path() {
    let root = tempfile::tempdir().expect("dir");
    let root = root.path();
    let exe = file(root, "/usr/sbin/nft");
    symlink("usr/sbin", root.join("sbin")).expect("merged");
    list(root, "nftables:amd64", "/.\n/sbin\n/sbin/nft\n");
    list(root, "other", "/usr/sbin/nft.d\n/usr/sbin\n");
    let mut packages = Packages::new(root.into());
    assert_eq!(
        packages.owner(b"/usr/sbin/nft", &exe).as_deref(),
        Some("nftables")
    );
}

#[test]
fn a_spelling_that_is_another_file_does_not_count() {
    let root = tempfile::tempdir().expect("dir");
    let root = root.path();
    let ours = file(root, "/usr/bin/x");
    file(root, "/usr/sbin/x");
    list(root, "theirs", "/usr/sbin/x\n");
    assert_eq!(Packages::new(root.into()).owner(b"/usr/bin/x", &ours), None);
}

#[test]
fn a_file_of_another_mount_namespace_belongs_to_no_package_here() {
    let root = tempfile::tempdir().expect("dir");
    let root = root.path();
    let host = file(root, "/usr/sbin/nginx");
    let container = file(root, "/container/usr/sbin/nginx");
    list(root, "nginx-core", "/usr/sbin/nginx\n");
    let mut packages = Packages::new(root.into());
    assert_eq!(packages.owner(b"/usr/sbin/nginx", &container), None);
    assert_eq!(
        packages.owner(b"/usr/sbin/nginx", &host).as_deref(),
        Some("nginx-core")
    );
}

#[test]
fn diverted_files_belong_to_who_put_them_there() {
    let root = tempfile::tempdir().expect("dir");
    let root = root.path();
    let new = file(root, "/usr/bin/perf");
    let old = file(root, "/usr/bin/perf.real");
    let local = file(root, "/usr/bin/local");
    list(root, "linux-perf", "/usr/bin/perf\n");
    list(root, "wrapper", "/usr/bin/perf\n/usr/bin/local\n");
    let diversions =
        "/usr/bin/perf\n/usr/bin/perf.real\nwrapper\n/usr/bin/local\n/usr/bin/local.orig\n:\n";
    std::fs::write(root.join("var/lib/dpkg/diversions"), diversions).expect("diversions");
    let mut packages = Packages::new(root.into());
    assert_eq!(
        packages.owner(b"/usr/bin/perf", &new).as_deref(),
        Some("wrapper")
    );
    assert_eq!(
        packages.owner(b"/usr/bin/perf.real", &old).as_deref(),
        Some("linux-perf")
    );
    assert_eq!(packages.owner(b"/usr/bin/local", &local), None);
}

#[test]
fn an_installation_is_noticed() {
    let root = tempfile::tempdir().expect("dir");
    let root = root.path();
    let exe = file(root, "/usr/bin/x");
    list(root, "a", "/nothing\n");
    let mut packages = Packages::new(root.into());
    assert_eq!(packages.owner(b"/usr/bin/x", &exe), None);
    // Directory times have the clock tick's resolution.
    std::thread::sleep(std::time::Duration::from_millis(20));
    list(root, "b", "/usr/bin/x\n");
    assert_eq!(packages.owner(b"/usr/bin/x", &exe).as_deref(), Some("b"));
}

#[test]
fn rpm_confirms_the_directory() {
    let root = tempfile::tempdir().expect("dir");
    let root = root.path();
    let exe = file(root, "/usr/sbin/nginx");
    let stray = file(root, "/opt/nginx");
    let dir = root.join("usr/lib/sysimage/rpm");
    std::fs::create_dir_all(&dir).expect("dir");
    let db = rusqlite::Connection::open(dir.join("rpmdb.sqlite")).expect("database");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; -- as rpm has it
         CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);
         CREATE TABLE Basenames (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL);
         INSERT INTO Basenames VALUES ('nginx', 1, 0), ('nginx', 2, 1), ('nginx', 3, 0);",
    )
    .expect("tables");
    let blobs = [
        b"\0\0".to_vec(),
        header(
            "nginx-core",
            &[("/usr/share/", "x"), ("/usr/sbin/", "nginx")],
        ),
        header("logrotate", &[("/etc/logrotate.d/", "nginx")]),
    ];
    for blob in blobs {
        db.execute("INSERT INTO Packages (blob) VALUES (?1)", [blob])
            .expect("row");
    }
    drop(db);
    let mut packages = Packages::new(root.into());
    assert_eq!(
        packages.owner(b"/usr/sbin/nginx", &exe).as_deref(),
        Some("nginx-core")
    );
    assert_eq!(packages.owner(b"/opt/nginx", &stray), None);
}

#[test]
fn this_hosts_database_knows_its_programs() {
    if !Path::new("/var/lib/dpkg/info/bash.list").exists() {
        return;
    }
    let path = std::fs::canonicalize("/bin/bash").expect("bash");
    let (exe, _) = stamp(rustix::fs::CWD, &path).expect("bash");
    let owner = Packages::new("/".into()).owner(path.as_os_str().as_encoded_bytes(), &exe);
    assert_eq!(owner, Some(Arc::from("bash")));
}
