//! Tables of what plans become and what they refuse, on a small root of their own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
};

use agentos_protocol::sandbox::{Listener, Mount, Network, Profile};
use agentos_types::Code;
use tempfile::TempDir;

use super::{Authority, Bind, HostRoot, Plan, PlanLimits, binds::target};

/// A host in a directory: a merged `/usr` as Debian has it, and places to bind.
struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        for name in [
            "usr/bin",
            "usr/lib",
            "etc/alternatives",
            "etc/ssl/certs/java",
            "etc/java-17-openjdk",
            "srv/data/keys",
            "srv/free",
        ] {
            fs::create_dir_all(world.path(name)).unwrap();
        }
        for link in ["bin", "lib"] {
            symlink(format!("usr/{link}"), world.path(link)).unwrap();
        }
        fs::create_dir(world.path("sbin")).unwrap();
        symlink("/nowhere/lib64", world.path("lib64")).unwrap();
        for (name, mode) in [("usr/bin/tool", 0o755), ("usr/bin/text", 0o644), ("srv/free/own", 0o755)] {
            fs::write(world.path(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/etc/alternatives/awk", world.path("usr/bin/awk")).unwrap();
        symlink("/usr/bin/tool", world.path("etc/alternatives/awk")).unwrap();
        symlink("/root/tool", world.path("usr/bin/astray")).unwrap();
        symlink("loop", world.path("usr/bin/loop")).unwrap();
        fs::write(world.path("etc/shadow"), "root:secret").unwrap();
        fs::write(world.path("etc/ssl/certs/ca-certificates.crt"), "ROOTS").unwrap();
        symlink("/usr/share/zoneinfo/Europe/Berlin", world.path("etc/localtime")).unwrap();
        fs::write(world.path("srv/data/installation.json"), "{}").unwrap();
        fs::write(world.path("bundle"), "ROOTS\nOWN").unwrap();
        symlink("free", world.path("srv/link")).unwrap();
        world
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn plan(&self, command: &[&str]) -> Plan {
        let host = HostRoot::survey(&self.path("")).unwrap();
        Plan::new(Arc::new(host), command.iter().map(|word| (*word).to_owned()).collect())
    }

    fn bind(&self, name: &str, target: Option<&str>) -> Bind {
        Bind { source: self.path(name), target: target.map(str::to_owned), writable: false }
    }
}

fn find<'m>(mounts: &'m [Mount], place: &str) -> &'m Mount {
    mounts
        .iter()
        .find(|mount| target(mount) == Some(place))
        .unwrap_or_else(|| panic!("nothing at {place}: {mounts:#?}"))
}

fn content(mounts: &[Mount], place: &str) -> String {
    match find(mounts, place) {
        Mount::File { content, .. } => content.clone(),
        other => panic!("{place} is {other:?}"),
    }
}

#[test]
fn the_hosts_programs_are_there_and_its_secrets_are_not() {
    let world = World::new();
    let mounts = world.plan(&["tool"]).order().unwrap().mounts;
    for (place, writable, executable) in [
        ("/usr", false, true),
        ("/sbin", false, true),
        ("/etc/alternatives", false, false),
        ("/etc/java-17-openjdk", false, false),
        ("/etc/ssl/certs", false, false),
    ] {
        let expected = Mount::Bind {
            source: world.path(place.trim_start_matches('/')).to_str().unwrap().to_owned(),
            target: place.to_owned(),
            writable,
            executable,
        };
        assert_eq!(*find(&mounts, place), expected);
    }
    for (place, to) in [
        ("/bin", "usr/bin"),
        ("/lib", "usr/lib"),
        ("/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin"),
        ("/var/tmp", "/tmp"),
    ] {
        assert_eq!(*find(&mounts, place), Mount::Symlink { target: place.to_owned(), to: to.to_owned() });
    }
    // A link that leads out of /usr, and everything that nobody asked for.
    for absent in ["/lib64", "/opt", "/etc", "/etc/shadow", "/app", "/home", "/root", "/"] {
        assert!(!mounts.iter().any(|mount| target(mount) == Some(absent)), "{absent} is inside");
    }
    let writable: Vec<_> = mounts.iter().filter(|mount| matches!(mount, Mount::Bind { writable: true, .. })).collect();
    assert!(writable.is_empty(), "{writable:?}");
    assert!(matches!(find(&mounts, "/tmp"), Mount::Tmpfs { executable: false, bytes, .. } if *bytes == 64 << 20));
    assert!(matches!(find(&mounts, "/workspace"), Mount::Tmpfs { executable: true, .. }));
}

#[test]
fn mounts_come_from_the_root_down() {
    let world = World::new();
    let mut plan = world.plan(&["tool"]);
    plan.package = Some(world.path("srv/free"));
    plan.binds = vec![world.bind("srv/free", Some("/srv/free"))];
    let mounts = plan.order().unwrap().mounts;
    for (later, mount) in mounts.iter().enumerate().filter_map(|(index, mount)| Some((index, target(mount)?))) {
        for (earlier, above) in mounts.iter().enumerate().filter_map(|(index, mount)| Some((index, target(mount)?))) {
            let is_above = mount != above && Path::new(mount).starts_with(above);
            assert!(!is_above || earlier < later, "{above} is mounted over {mount}");
        }
    }
}

#[test]
fn names_and_users_are_the_same_on_every_machine() {
    let world = World::new();
    let order = world.plan(&["tool"]).order().unwrap();
    assert_eq!(order.hostname, "sandbox");
    assert_eq!(order.directory, "/workspace");
    for (place, expected) in [
        ("/etc/passwd", "agent:x:1000:1000:agent:/workspace:/bin/sh"),
        ("/etc/group", "agent:x:1000:"),
        ("/etc/hostname", "sandbox"),
        ("/etc/hosts", "127.0.0.1 localhost sandbox"),
        ("/etc/nsswitch.conf", "hosts: files\n"),
        ("/etc/services", "https 443/tcp"),
    ] {
        let text = content(&order.mounts, place);
        assert!(text.contains(expected), "{place}: {text}");
        assert!(!text.contains(":0:"), "{place} has a root: {text}");
    }
}

#[test]
fn names_are_asked_of_a_listener_or_of_nobody() {
    let world = World::new();
    for (listeners, resolver, sources) in [
        (vec![], "# no names", "hosts: files\n"),
        (vec![Listener::Tcp(53)], "# no names", "hosts: files\n"),
        (vec![Listener::Udp(53), Listener::Tcp(443)], "nameserver 127.0.0.1", "hosts: files dns\n"),
    ] {
        let mut plan = world.plan(&["tool"]);
        plan.listeners = listeners.clone();
        let order = plan.order().unwrap();
        assert!(content(&order.mounts, "/etc/resolv.conf").contains(resolver), "{listeners:?}");
        assert!(content(&order.mounts, "/etc/nsswitch.conf").contains(sources), "{listeners:?}");
        assert_eq!(order.network, Network::Own { listeners, loopback: false });
    }
}

#[test]
fn the_proxy_alone_has_the_machines_network_and_names() {
    let world = World::new();
    fs::write(world.path("etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    for profile in Profile::ALL {
        let mut plan = world.plan(&["tool"]);
        plan.profile = profile;
        let order = plan.order().unwrap();
        let is_proxy = profile == Profile::Proxy;
        assert_eq!(order.network == Network::Host, is_proxy, "{profile:?}");
        assert_eq!(content(&order.mounts, "/etc/resolv.conf").contains("192.0.2.1"), is_proxy, "{profile:?}");
    }
}

#[test]
fn an_authority_is_found_under_each_name_that_clients_know() {
    let world = World::new();
    let mut plan = world.plan(&["tool"]);
    plan.authority = Some(Authority { certificate: "OWN".to_owned(), bundle: world.path("bundle") });
    assert_eq!(plan.host.bundle("OWN").unwrap(), "ROOTS\nOWN");
    let order = plan.order().unwrap();
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    assert!(matches!(find(&order.mounts, bundle), Mount::Bind { writable: false, .. }));
    for link in ["/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"] {
        assert_eq!(*find(&order.mounts, link), Mount::Symlink { target: link.to_owned(), to: bundle.to_owned() });
    }
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        assert_eq!(order.environment[name], bundle, "{name}");
    }
    assert_eq!(content(&order.mounts, &order.environment["NODE_EXTRA_CA_CERTS"]), "OWN");
    let plain = world.plan(&["tool"]).order().unwrap();
    assert!(!plain.environment.keys().any(|name| name.contains("CERT") || name.contains("CA_")));
}

#[test]
fn run_times_are_told_their_share() {
    let world = World::new();
    let mib = |count: u64| Some(count << 20);
    for (cpu_percent, memory_bytes, expected) in [
        (None, None, vec![("GOMAXPROCS", None), ("NODE_OPTIONS", None), ("JAVA_TOOL_OPTIONS", None)]),
        (Some(50), None, vec![("GOMAXPROCS", Some("1")), ("JAVA_TOOL_OPTIONS", Some("-XX:ActiveProcessorCount=1"))]),
        (
            Some(250),
            None,
            vec![("OMP_NUM_THREADS", Some("3")), ("TOKIO_WORKER_THREADS", Some("3")), ("PYTHON_CPU_COUNT", Some("3"))],
        ),
        (
            None,
            mib(400),
            vec![
                ("NODE_OPTIONS", Some("--max-old-space-size=300")),
                ("GOMEMLIMIT", Some("360MiB")),
                ("JAVA_TOOL_OPTIONS", Some("-XX:MaxRAM=419430400 -XX:MaxRAMPercentage=60")),
                ("MALLOC_ARENA_MAX", Some("2")),
            ],
        ),
        (Some(100), Some(1), vec![("NODE_OPTIONS", Some("--max-old-space-size=1")), ("GOMEMLIMIT", Some("1MiB"))]),
    ] {
        let mut plan = world.plan(&["tool"]);
        plan.limits = PlanLimits { cpu_percent, memory_bytes, ..PlanLimits::default() };
        let environment = plan.order().unwrap().environment;
        for (name, value) in expected {
            assert_eq!(environment.get(name).map(String::as_str), value, "{cpu_percent:?} {memory_bytes:?} {name}");
        }
    }
}

#[test]
fn what_was_asked_for_goes_before_the_hints() {
    let world = World::new();
    let mut plan = world.plan(&["tool"]);
    plan.environment.insert("HOME".to_owned(), "/tmp".to_owned());
    plan.environment.insert("OWN".to_owned(), "1".to_owned());
    let environment = plan.order().unwrap().environment;
    for (name, value) in [("HOME", "/tmp"), ("OWN", "1"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8"), ("USER", "agent")] {
        assert_eq!(environment[name], value, "{name}");
    }
}

#[test]
fn address_space_is_bounded_only_where_nothing_bounds_the_sum() {
    let world = World::new();
    for (memory_is_grouped, expected) in [(true, None), (false, Some(1 << 30))] {
        let mut plan = world.plan(&["tool"]);
        plan.limits = PlanLimits { memory_bytes: Some(1 << 30), memory_is_grouped, ..PlanLimits::default() };
        assert_eq!(plan.order().unwrap().limits.address_space_bytes, expected);
    }
}

#[test]
fn commands_are_found_as_they_will_be_inside() {
    let world = World::new();
    for (program, expected) in [
        ("tool", Some("/usr/bin/tool")),
        ("awk", Some("/usr/bin/awk")),
        ("/usr/bin/tool", Some("/usr/bin/tool")),
        ("./build/../run.sh", Some("/workspace/run.sh")),
        ("../../../x", Some("/x")),
        ("own", Some("/mnt/free/own")),
        ("text", None),
        ("astray", None),
        ("loop", None),
        ("absent", None),
        ("", None),
    ] {
        let mut plan = world.plan(&[program, "one", ""]);
        plan.binds = vec![world.bind("srv/free", None)];
        plan.environment.insert("PATH".to_owned(), "/usr/bin:relative:/bin/:/mnt/free".to_owned());
        let found = plan.order().map(|order| order.command).map_err(|fault| fault.code);
        let expected = expected.map(|path| vec![path.to_owned(), "one".to_owned(), String::new()]);
        assert_eq!(found, expected.ok_or(Code::SANDBOX_REFUSED), "{program}");
    }
}

#[test]
fn sources_and_targets_that_would_open_or_cover_something_are_refused() {
    let world = World::new();
    let named = |source: &str, target: Option<&str>| Bind {
        source: source.into(),
        target: target.map(str::to_owned),
        writable: true,
    };
    let free = || world.path("srv/free").to_str().unwrap().to_owned();
    let root = || world.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    for (bind, expected) in [
        (named(&format!("{}/srv/link", root()), None), "is not the real name"),
        (named(&format!("{}/srv/link/own", root()), None), "is not the real name"),
        (named(&format!("{}/srv/./free", root()), None), "is not the real name"),
        (named("srv/free", None), "cannot be bound"),
        (named(&format!("{}/srv/absent", root()), None), "cannot be bound"),
        (named("/dev/null", Some("/mnt/null")), "neither a directory nor a regular file"),
        (named("/", Some("/mnt/all")), "because of /dev"),
        (named("/proc", Some("/mnt/proc")), "because of /proc"),
        (named("/sys", None), "because of /sys"),
        (named(&format!("{}/srv/data", root()), None), "belongs to the installation"),
        (named(&format!("{}/srv/data/keys", root()), None), "belongs to the installation"),
        (named(&format!("{}/srv/data/installation.json", root()), None), "belongs to the installation"),
        (named(&format!("{}/usr", root()), None), "because of"),
        (named(&format!("{}/usr/bin", root()), None), "because of"),
        (named(&root(), None), "because of"),
        (named(&free(), Some("/")), "would cover"),
        (named(&free(), Some("/usr")), "would cover /usr"),
        (named(&free(), Some("/usr/local")), "would cover /usr"),
        (named(&free(), Some("/etc/passwd")), "would cover /etc"),
        (named(&free(), Some("/var")), "would cover /var/tmp"),
        (named(&free(), Some("/workspace/x")), "would cover /workspace"),
        (named(&free(), Some("/proc/self")), "would cover /proc"),
        (named(&free(), Some("/mnt/../etc")), "absolute plain path"),
        (named(&free(), Some("mnt/x")), "absolute plain path"),
        (named(&free(), Some("/mnt//x")), "absolute plain path"),
        (named(&free(), Some("/mnt/x/")), "absolute plain path"),
        (named(&free(), Some("/mnt/./x")), "absolute plain path"),
        (named(&free(), Some("")), "absolute plain path"),
        (named(&free(), Some("/mnt/a\0b")), "absolute plain path"),
        (named(&free(), Some(&format!("/mnt/{}", "x".repeat(1_024)))), "absolute plain path"),
        (named(&free(), Some("/mnt/first/deeper")), "overlap"),
        (named(&free(), Some("/mnt")), "overlap"),
    ] {
        let mut plan = world.plan(&["tool"]);
        plan.closed = vec![world.path("usr")];
        plan.binds = vec![world.bind("srv/free", Some("/mnt/first")), bind.clone()];
        let fault = plan.order().expect_err(&format!("{bind:?} was accepted"));
        assert_eq!(fault.code, Code::SANDBOX_REFUSED);
        assert!(fault.message.contains(expected), "{bind:?}: {}", fault.message);
    }
}

#[test]
fn binds_appear_under_a_neutral_name_and_as_they_were_asked_for() {
    let world = World::new();
    let mut plan = world.plan(&["tool"]);
    plan.binds = vec![world.bind("srv/free", None), Bind { writable: true, ..world.bind("usr/bin", Some("/data")) }];
    let mounts = plan.order().unwrap().mounts;
    assert!(matches!(find(&mounts, "/mnt/free"), Mount::Bind { writable: false, executable: true, .. }));
    assert!(matches!(find(&mounts, "/data"), Mount::Bind { writable: true, .. }));
    plan.binds = (0..65).map(|n| world.bind("srv/free", Some(&format!("/mnt/{n}")))).collect();
    assert!(plan.order().unwrap_err().message.contains("above the limit of 64"));
}

#[test]
fn a_workspace_lies_at_its_place_or_the_plan_is_a_defect() {
    let world = World::new();
    let at =
        |target: &str| Mount::Bind { source: "/x".into(), target: target.into(), writable: true, executable: true };
    let mut plan = world.plan(&["tool"]);
    plan.workspace = Some(at("/workspace"));
    assert_eq!(*find(&plan.order().unwrap().mounts, "/workspace"), at("/workspace"));
    plan.workspace = Some(at("/etc"));
    assert_eq!(plan.order().unwrap_err().code, Code::INTERNAL);
}

#[test]
fn a_machine_without_usr_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(HostRoot::survey(empty.path()).unwrap_err().code, Code::SANDBOX_REFUSED);
    symlink("/usr", empty.path().join("usr")).unwrap();
    assert_eq!(HostRoot::survey(empty.path()).unwrap_err().code, Code::SANDBOX_REFUSED);
}
