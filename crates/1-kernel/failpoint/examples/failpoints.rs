//! Prints the table of points. It is an example and not a program, so that a build of the armed program that also asks
//! for it takes the features of the tests, and with them the dependencies that are built already.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use agentos_failpoint::Point;

fn main() {
    for point in Point::ALL {
        println!("{:36} {}", point.name(), point.meaning());
    }
}
