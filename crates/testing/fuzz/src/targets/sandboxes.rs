//! Orders for sandboxes: what the launcher accepts can be carried out without a second look.

use agentos_launcher::order::{block::Plan, check_plain, plan, read};
use agentos_protocol::sandbox::{Mount, Profile, SandboxOrder, ToLauncher};

/// The first byte says how many descriptors came along.
pub fn sandbox(data: &[u8]) {
    let Some((count, packet)) = data.split_first() else { return };
    let Ok(order) = read(packet, usize::from(*count)) else { return };
    let again = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order.clone())));
    let again = again.ok().and_then(|bytes| read(&bytes, usize::from(*count)).ok());
    assert_eq!(again.as_ref(), Some(&order), "an order that is written and read again is the same");
    for profile in [Profile::Agent, Profile::Strict] {
        let block = plan(profile, &order).unwrap_or_default();
        let plan = Plan::read(&block).unwrap_or_else(|| panic!("an accepted order has a plan: {order:?}"));
        assert_eq!(plan.command().count(), order.command.len(), "{order:?}");
        assert_eq!(plan.environment().count(), order.environment.len(), "{order:?}");
    }
    assert_ne!(order.host_id, Some(0), "nothing inside is the host's root");
    assert_ne!(order.host_gid, Some(0), "nothing inside is in the group of the host's root");
    order.mounts.iter().for_each(expect_plain);
    expect_bounded(&order);
}

/// No target leads anywhere but down from the root.
fn expect_plain(mount: &Mount) {
    let paths: &[&String] = match mount {
        Mount::Bind { source, target, .. } => &[source, target],
        Mount::Tmpfs { target, bytes, inodes, .. } => {
            assert!(*bytes > 0 && *inodes > 0, "a tmpfs without limits");
            &[target]
        }
        Mount::Symlink { target, .. } | Mount::File { target, .. } => &[target],
        Mount::Devices { shm_bytes } => {
            assert!(*shm_bytes > 0, "shared memory without limits");
            &[]
        }
    };
    for path in paths {
        assert_eq!(check_plain("path", path), Ok(()));
    }
}

fn expect_bounded(order: &SandboxOrder) {
    assert!(order.mounts.len() <= 128 && order.command.len() <= 1024 && order.environment.len() <= 512);
    assert!(!order.environment.keys().any(|name| name.starts_with("LD_") || name.contains('=')));
}
