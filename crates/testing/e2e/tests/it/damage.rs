//! A data directory whose database is not what it should be: the start is refused with a code and a way out, nothing is
//! made anew, and nothing panics.

use std::{fs, path::Path, process::Command};

use agentos_kit::{TestOs, program};

type Damage = fn(&Path);

/// What somebody may find in place of the database, and what the start says about it.
const DAMAGES: &[(&str, Damage, &str, &str)] = &[
    ("nothing", |file| fs::remove_file(file).unwrap(), "AOS-1008", "restore the newest verified backup"),
    ("an empty file", |file| fs::write(file, "").unwrap(), "AOS-1008", "restore the newest verified backup"),
    (
        "a directory",
        |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        },
        "AOS-1008",
        "restore the newest verified backup",
    ),
    (
        "a text",
        |file| fs::write(file, "these are not the tables that you look for ".repeat(9)).unwrap(),
        "AOS-1105",
        "restore",
    ),
    ("a damaged header", |file| change(file, |bytes| bytes[..64].fill(0xFF)), "AOS-1105", "restore"),
    ("half of it", |file| change(file, |bytes| bytes.truncate(bytes.len() / 2)), "AOS-1105", "restore"),
    ("garbage behind the header", |file| change(file, |bytes| bytes[100..].fill(0xA5)), "AOS-1105", "restore"),
];

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// What lies at a path, for before and after.
fn found(file: &Path) -> Result<Vec<u8>, std::io::ErrorKind> {
    fs::read(file).map_err(|error| error.kind())
}

#[tokio::test]
async fn what_is_not_the_database_refuses_the_start_and_is_left_as_it_is() {
    for (name, damage, code, way_out) in DAMAGES {
        let os = TestOs::initialised().await;
        let file = os.home().join("agent-os.db");
        damage(&file);
        let before = found(&file);
        // Twice: a start that failed must not have made what the next one takes for a database.
        for _ in 0..2 {
            let refused = os.cli(&["up", "--port", "0"]).await;
            assert_eq!(refused.code, 1, "{name}: {}", refused.stderr);
            assert!(refused.stderr.contains(code), "{name}: {}", refused.stderr);
            assert!(refused.stderr.contains(way_out), "{name}: {}", refused.stderr);
            assert!(!refused.stderr.contains("panicked"), "{name}: {}", refused.stderr);
        }
        assert_eq!(found(&file), before, "{name} was changed");
        let doctor = os.cli(&["doctor"]).await;
        assert!(!doctor.stderr.contains("panicked"), "{name}: {}", doctor.stderr);
    }
}

/// Root may read everything, so the right to do so is taken from it first.
#[tokio::test]
async fn a_database_that_the_server_may_not_read_is_told() {
    let os = TestOs::initialised().await;
    let file = os.home().join("agent-os.db");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let mut start = match rustix::process::geteuid().is_root() {
        true => {
            let mut bounded = Command::new("setpriv");
            bounded.arg("--bounding-set=-dac_override,-dac_read_search").arg(program("agent-os"));
            bounded
        }
        false => Command::new(program("agent-os")),
    };
    let refused = start.args(["up", "--port", "0"]).env_clear().env("AGENT_OS_HOME", os.home()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("AOS-1102"), "{said}");
    assert!(said.contains("read and write"), "the hint: {said}");
}
