//! A machine that is lost in the middle of `init`: what is left is either refused with its reason or as good as new.

use agentos_failpoint::Point;
use agentos_kit::TestOs;

use super::field::{ARMED, VARIABLE};

#[tokio::test]
async fn an_init_that_was_cut_off_leaves_nothing_that_passes_for_an_installation() {
    for point in Point::ALL.iter().filter(|point| point.name().starts_with("init.")) {
        let mut os = TestOs::bare(&[]);
        os.serve_with(ARMED);
        let cut = os.run(&["init"], &[(VARIABLE, point.name())]).await;
        assert!(cut.code == -1 && cut.stderr.contains(point.name()), "{}: {} {}", point.name(), cut.code, cut.stderr);
        let up = os.cli(&["up", "--port", "0"]).await;
        assert!(up.stderr.contains("AOS-1005"), "{}: {}", point.name(), up.stderr);
        let again = os.cli(&["init"]).await;
        match point {
            Point::InitDirectoryMade => assert_eq!(again.code, 0, "{}", again.stderr),
            // Keys are never overwritten: somebody may hold their public halves.
            _ => assert!(again.stderr.contains("AOS-1006") && again.stderr.contains("hint:"), "{}", again.stderr),
        }
    }
}
