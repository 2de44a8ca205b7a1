//! What a launcher says of its walls is what it has tried.

use agentos_protocol::sandbox::Layer;

use crate::server::{NOBODY, serve};

const WALLS: [&str; 11] =
    ["user", "mount", "pid", "network", "ipc", "uts", "cgroup", "proc", "rights", "seccomp", "landlock"];

fn row<'a>(layers: &'a [Layer], name: &str) -> &'a Layer {
    layers.iter().find(|layer| layer.name == name).unwrap_or_else(|| panic!("no layer {name}: {layers:?}"))
}

#[test]
fn every_wall_is_up_here() {
    for &backend in crate::harness::backends() {
        for user in [None, Some(NOBODY)] {
            let server = serve("agent", backend, user);
            for name in WALLS {
                let row = row(&server.layers, name);
                assert!(row.is_active, "{backend} as {user:?}: {row:?}");
            }
            let memfd = row(&server.layers, "memfd");
            let by_kernel = backend == "native" && user.is_none();
            assert!(memfd.is_active && memfd.detail.contains("filter and kernel") == by_kernel, "{memfd:?}");
        }
    }
}

#[test]
fn without_walls_all_of_them_are_told_as_missing() {
    let server = serve("agent", "none", None);
    for name in WALLS.iter().filter(|name| **name != "rights") {
        let row = row(&server.layers, name);
        assert!(!row.is_active && row.detail.contains("development"), "{row:?}");
    }
}

#[test]
fn the_proxy_says_that_it_has_the_network() {
    assert!(!row(&serve("proxy", "native", None).layers, "network").is_active);
    for profile in ["strict", "dev", "proxy"] {
        assert!(row(&serve(profile, "native", None).layers, "seccomp").is_active, "{profile}");
    }
}
