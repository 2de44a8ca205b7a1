//! An order without walls, for development: the program sees the machine, so places inside are said as the places outside
//! that would be mounted there.

use agentos_protocol::sandbox::{Mount, SandboxOrder};

/// The same order with words that the machine understands. Mounts of memory and generated files have no place outside: the
/// machine's own `/tmp` and `/etc` are what the program finds.
pub fn without_walls(order: &SandboxOrder) -> SandboxOrder {
    let binds: Vec<(&str, &str)> = order.mounts.iter().filter_map(bind).collect();
    let mut open = order.clone();
    open.directory = outside(&binds, &order.directory);
    open.command.iter_mut().for_each(|word| *word = outside(&binds, word));
    for value in open.environment.values_mut() {
        // Lists such as PATH are of places.
        *value = value.split(':').map(|part| outside(&binds, part)).collect::<Vec<_>>().join(":");
    }
    open
}

fn bind(mount: &Mount) -> Option<(&str, &str)> {
    match mount {
        Mount::Bind { source, target, .. } if source != target => Some((target, source)),
        _ => None,
    }
}

/// The deepest mount that holds the place decides.
fn outside(binds: &[(&str, &str)], text: &str) -> String {
    let beneath = |(target, source): &(&str, &str)| {
        let rest = text.strip_prefix(*target)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (target.len(), format!("{source}{rest}")))
    };
    binds.iter().filter_map(beneath).max().map_or_else(|| text.to_owned(), |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_inside_are_said_as_places_outside() {
        let binds = [("/app", "/var/lib/x/package"), ("/app/data", "/srv/data"), ("/workspace", "/var/lib/x/work")];
        for (inside, expected) in [
            ("/app", "/var/lib/x/package"),
            ("/app/bin/agent", "/var/lib/x/package/bin/agent"),
            ("/app/data/1", "/srv/data/1"),
            ("/application", "/application"),
            ("/usr/bin/python3", "/usr/bin/python3"),
            ("app", "app"),
            ("", ""),
        ] {
            assert_eq!(outside(&binds, inside), expected, "{inside}");
        }
    }
}
