//! What is seen from inside of a sandbox: the effect of each stage.

use agentos_protocol::sandbox::*;

use crate::server::{order, serve};

#[test]
fn a_shell_runs_inside_and_its_end_is_told() {
    let mut server = serve("agent", "native", None);
    assert_eq!(server.shell("echo hello; echo $ONLY; id -u; hostname; echo $$"), "hello\nthis one\n1000\ninside\n2\n");
    let (end, _) = server.run(order("exit 7"));
    assert_eq!(end, End::Exited(7));
    let (end, _) = server.run(order("kill -9 $$"));
    assert_eq!(end, End::Signaled(9));
}
